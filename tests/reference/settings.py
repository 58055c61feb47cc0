"""The page of the settings: name, default, unit, values and meaning of each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from config.description import name_variable, show_value
from config.settings import Settings
from tests.reference.markdown import code, page, table

_UNITS = {
    "_per_s": "per second",
    "_s": "seconds",
    "_bytes": "bytes",
    "_days": "days",
    "_months": "months",
    "_port": "port",
}
_MORE = {
    "redis_url": "../guides/deploying/redis-addresses.md",
    "broker_url": "../guides/deploying/rabbitmq.md",
    "postgres_url": "../guides/deploying/postgres.md",
    "postgres_schema": "../guides/deploying/shared-database.md",
    "prefix": "../guides/deploying/several-installations.md",
    "count_by": "../guides/reading/zeros.md",
    "sum": "../guides/reading/sums.md",
    "event_types_cap": "../explanation/event-types.md",
    "dedup_window_s": "../guides/sending/event-ids.md",
    "counter_ttl_s": "../explanation/live-counters.md",
    "flush_batch_size": "../explanation/live-counters.md",
    "event_log": "../guides/data/raw-events.md",
    "appendfsync": "../explanation/exactly-once.md",
    "enabled": "../guides/sending/testing.md",
    "user_id_secret": "../guides/data/pseudonyms.md",
    "key_events_per_s": "../guides/data/access-keys.md",
    "page_key_events_per_s": "../guides/data/access-keys.md",
    "sessions": "../guides/sending/page-views.md",
    "page_properties": "../guides/sending/page-views.md",
    "trusted_proxies": "../guides/deploying/web-server.md",
    "metrics_port": "metrics.md",
    "alarm_webhook": "../guides/operating/alarms/README.md",
    "log_format": "../guides/operating/logs.md",
}
"""Setting -> the page that says more."""


def make() -> str:
    """The page."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return page(
        "Settings",
        "Every setting is an environment variable. A wrong, empty or misspelt one stops the start "
        "with one line that names it; `analytics settings` prints those in force.",
        table(("variable", "default", "unit and values", "meaning"), rows),
    )


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    meaning = _quote_json((field.description or "").strip())
    if name in _MORE:
        meaning = f"{meaning} ([more]({_MORE[name]}))"
    return code(name_variable(name)), _default(name, field), _rule(name, field), meaning


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return code(str(int(value)))
    if isinstance(value, dict | list):
        return code(json.dumps(value))
    shown = show_value(name, value)
    return shown.strip("()") if value is None else code(shown)


def _rule(name: str, field: FieldInfo) -> str:
    unit = next((of for end, of in _UNITS.items() if name.endswith(end)), "")
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        return "`0` or `1`"
    if isinstance(default, int | float):
        return ", ".join(filter(None, (unit, _range(field))))
    if get_origin(field.annotation) is Literal:
        return " or ".join(code(choice) for choice in get_args(field.annotation))
    if isinstance(default, dict | list) or name == "event_log":
        return "JSON"
    if isinstance(default, Path):
        return "directory"
    return "URL" if name.endswith(("_url", "_webhook")) else "text"


def _range(field: FieldInfo) -> str:
    least, above, most = (
        next((f"{getattr(one, kind):,}" for one in field.metadata if hasattr(one, kind)), "")
        for kind in ("ge", "gt", "le")
    )
    lower = f"at least {least}" if least else f"above {above}"
    if not most:
        return lower
    return f"{least} to {most}" if least else f"{lower}, at most {most}"


def _quote_json(text: str) -> str:
    """The text with its JSON as code."""
    return re.sub(r"(?<!`)(\{\".*\}|\[\".*\"\])(?!`)", r"`\1`", text)
