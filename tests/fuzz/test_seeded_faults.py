"""The control: of a version with a fault, each of which once was or could be, the fuzz says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings

from tests.fuzz.budget import renew
from tests.fuzz.properties import PROPERTIES

EXAMPLES = 2_000
"""At most: the first that fails ends the search."""

FAULTS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "a status that is an object ends an import": (
        "files",
        "pipeline.cli.files.formats.web_request.parse_number",
        lambda name, value: 0 if value in {"", "-", None} else 1,
    ),
    "a body that is no JSON is a fault of the server": (
        "bodies",
        "pipeline.web.collector.formats.single_events.parse_object",
        json.loads,
    ),
    "names in Redis are not escaped": ("redis-keys", "pipeline.redis.keys.escape", str),
    "any secret opens a key": (
        "access-keys",
        "pipeline.access.access_key.hmac.compare_digest",
        lambda one, other: True,
    ),
    "a setting that is wrong is shown as it came": (
        "settings",
        "config.description.show_value",
        lambda name, value: str(value),
    ),
}

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("name", "place", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str, fault: Callable[..., Any]
) -> None:
    monkeypatch.setattr(place, fault)
    # Neither made small nor kept: it is not to be tried again without the fault.
    check = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )(renew(PROPERTIES[name]))

    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever the fault leads to
        check()
