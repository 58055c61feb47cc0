"""The batches of a flush, and the rows that go to Postgres from one."""

from __future__ import annotations

import pytest

from pipeline.flushing.claims import Claim
from pipeline.flushing.flush import flush
from pipeline.services import Services
from tests.helpers.support import (
    TODAY,
    count_events,
    event,
    execute,
    rows,
    store,
    stored_total,
)

USERS = 20
"""Each with an event, and in a bucket of many."""


def some_events(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(USERS)])


def test_the_batches_of_a_large_flush_grow(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush goes through all of an index once a batch."""
    some_events(services)
    flush(services.claims, services.store, 1)
    assert max(batch_sizes(services)) <= USERS // 4  # a bucket each
    execute(services, "TRUNCATE flush_batches")

    monkeypatch.setattr("pipeline.flushing.flush._WORTH_LANES", 1)
    some_events(services)
    assert flush(services.claims, services.store, 1) == USERS + 2
    grown = batch_sizes(services)
    assert sum(grown) == USERS + 2
    assert stored_total(services) == 2 * USERS
    assert max(grown) > USERS // 4


def batch_sizes(services: Services) -> list[int]:
    return [size for (size,) in execute(services, "SELECT rows FROM flush_batches")]


ODD = ["", "\x1e", "\x1f", "\x1e\x1f", "a"]


@pytest.mark.parametrize("values", [*([one] for one in ODD), ODD])
@pytest.mark.parametrize("name", ["p", *ODD])
def test_odd_names_are_stored_as_they_are(services: Services, name: str, values: list[str]) -> None:
    """Alone and together: those that separate what is sent to Postgres, and none at all."""
    named = {services.keys.value("t", name, one, str(TODAY)): n for n, one in enumerate(values)}
    assert store(services, Claim("one", 0, 1, named, size=len(named))) == len(named)
    assert rows(services, "analytics_dimension_daily") == sorted(
        (TODAY, "t", name, one, n) for n, one in enumerate(values)
    )
