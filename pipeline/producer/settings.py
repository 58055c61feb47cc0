"""Where a producer publishes: given to `configure`, else read from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import server_addresses
from pipeline.contract import PLAIN_USER_IDS
from pipeline.errors import InvalidConfiguration
from pipeline.installation import DEFAULT_PREFIX, check_prefix, queues_of
from pipeline.options import CounterOptions


@dataclass(frozen=True)
class ProducerSettings(CounterOptions):
    """Where events go; and how those are counted that this process counts itself."""

    redis_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    data_dir: Path = Path(".analytics")
    publish_timeout_s: float = 30
    prefix: str = DEFAULT_PREFIX
    plain_user_ids: bool = True
    """Whether user ids are the application's own, and none a pseudonym made before."""
    appendfsync: str = "always"
    enabled: bool = True
    """Whether events are sent at all. Where not, they are checked and dropped."""
    traces: bool = False
    """Whether messages carry the trace (OpenTelemetry's) of the call that sends them."""

    def __post_init__(self) -> None:
        # Workers refuse such a prefix, so what is sent under it would never be counted.
        try:
            check_prefix(self.prefix)
        except ValueError as error:
            raise InvalidConfiguration(f"prefix={self.prefix!r}: {error}") from error
        if self.traces:
            _check_traces()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ProducerSettings:
        """The settings of the same names, as far as they are set. Workers check them all; this only
        reads. Raises `InvalidConfiguration` where one cannot be read."""
        read: dict[str, Callable[[str], Any]] = {
            "redis_url": str,
            "broker_url": str,
            "data_dir": Path,
            "publish_timeout_s": float,
            "prefix": check_prefix,
            "appendfsync": str,
            "count_by": json.loads,
            "values_cap": int,
            "event_types_cap": int,
            "dedup_window_s": int,
            "counter_ttl_s": int,
            "user_id_secret": str,
            "enabled": read_switch,
            "traces": read_switch,
        }
        found: dict[str, Any] = {}
        for name, convert in read.items():
            variable = f"ANALYTICS_{name.upper()}"
            text = environment.get(variable)
            if text:
                try:
                    found[name] = convert(text)
                except ValueError as error:
                    raise InvalidConfiguration(f"{variable}={text}: {error}; correct it") from error
        return cls(**found)

    @property
    def events_queue(self) -> str:
        """The queue that events are sent to."""
        return queues_of(self.prefix).events

    def headers(self) -> dict[str, Any]:
        """What messages say in their headers besides what Celery does."""
        return {PLAIN_USER_IDS: True} if self.plain_user_ids else {}

    def redis_address(self) -> str:
        """The URL of Redis. Raises `InvalidConfiguration` when there is none."""
        return server_addresses.find_redis_url(self.redis_url, self.data_dir)


_chosen: ProducerSettings | None = None
_withholding = 0
_SWITCH = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
_SWITCH |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)


@cache
def current_settings() -> ProducerSettings:
    """The settings in use. Raises `InvalidConfiguration` where the environment cannot be read."""
    settings = _chosen or ProducerSettings.from_environment()
    return replace(settings, enabled=False) if _withholding else settings


def choose_settings(settings: ProducerSettings | None, changes: Mapping[str, Any]) -> None:
    """Have `current_settings` return these, or those in use, with changes."""
    global _chosen  # noqa: PLW0603 - one producer a process, as Celery has one app
    _chosen = replace(settings or _chosen or ProducerSettings.from_environment(), **changes)
    current_settings.cache_clear()


def withhold(blocks: int) -> None:
    """Have `enabled` be off, whatever is chosen, while so many blocks ask for it."""
    global _withholding  # noqa: PLW0603 - as above
    _withholding = blocks
    current_settings.cache_clear()


def read_switch(text: str) -> bool:
    """What a variable says that turns something on or off. Raises ValueError."""
    try:
        return _SWITCH[text.strip().lower()]
    except KeyError:
        raise ValueError("is neither on nor off: give 1 or 0") from None


def _check_traces() -> None:
    try:
        import opentelemetry.trace  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            "traces=True (ANALYTICS_TRACES=1) needs opentelemetry-api, which is not installed: "
            "pip install 'analytics-pipeline[otel]', or leave it out"
        ) from error
