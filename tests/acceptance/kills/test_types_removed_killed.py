"""A removal of event types that is killed at any point and repeated comes to the same end."""

from __future__ import annotations

import signal

import pytest

from pipeline.services import Services
from tests.acceptance.drivers.remove_types_driver import POINTS
from tests.helpers.processes import run_python
from tests.helpers.support import count_events
from tests.integration.upkeep.test_remove_types import (
    JUNK,
    TODAY,
    assert_removed,
    of_type,
    some,
)


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_repeated_it_comes_to_the_same_end(
    services: Services, redis_url: str, postgres_url: str, point: str
) -> None:
    count_events(services, *some(2, "u1"))
    services.flush()
    services.claims.claim("of types", 7, (0, 0))
    services.claims.claim("open", 1_000, (0, 0))
    count_events(services, *some(3, "u2"))

    module = "tests.acceptance.drivers.remove_types_driver"
    killed = run_python("-m", module, point, redis_url, postgres_url, *JUNK)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sum(of_type(services, name) for name in (*JUNK, "__other__")) == 20
    count_events(services, *some(1))
    services.flush()

    services.remove_types(JUNK, TODAY)

    assert_removed(services, 24)
    assert of_type(services, "page_view") == 12
