"""The catalogue knows of every archived event which type it was of, and which properties it had."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from pipeline.counting.log_entries import RawEvents
from pipeline.event_log import archive as archive_module
from pipeline.event_log import catalogue
from pipeline.event_log.catalogue import MOST_PROPERTIES, Sightings
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import (
    NOW,
    TODAY,
    count_events,
    event,
    eventually,
    execute,
    json_values_of,
)

OTHER = "__other__"


def archive(services: Services, *events: Any) -> None:
    count_events(services, *events)
    services.archive_events()


def types(services: Services) -> dict[str, tuple[int, datetime]]:
    rows = execute(services, "SELECT event_type, events, last FROM analytics_event_types")
    return {name: (n, last) for name, n, last in rows}


def properties(services: Services, event_type: str = "page_view") -> dict[str, int]:
    rows = execute(services, "SELECT event_type, property, events FROM analytics_event_properties")
    return {name: n for of_type, name, n in rows if of_type == event_type}


def test_events_count_with_each_of_their_properties(services: Services) -> None:
    archive(services, event(properties={"path": "/", "plan": None}), event(), event("sale"))
    archive(services, event(properties={"path": "/"}), event("sale", properties={"total": 1}))

    assert types(services) == {"page_view": (3, NOW), "sale": (2, NOW)}
    assert properties(services) == {"path": 2, "plan": 1}
    assert properties(services, "sale") == {"total": 1}


def test_the_newest_event_is_found_among_late_ones_and_parts_of_seconds(services: Services) -> None:
    times = ["2025-03-01T10:00:00.5Z", "2025-03-01T10:00:00Z", "2025-02-01T10:00:00Z"]
    archive(services, *(event(timestamp=at, properties={"a": 1}) for at in times))
    archive(services, event(timestamp=times[2], properties={"a": 1, "b": 1}))

    newest = datetime.fromisoformat(times[0])
    assert types(services) == {"page_view": (4, newest)}
    rows = execute(services, "SELECT property, last FROM analytics_event_properties")
    assert dict(map(tuple, rows)) == {"a": newest, "b": datetime.fromisoformat(times[2])}


def test_any_name_is_kept_in_some_form(services: Services) -> None:
    long = "𝒳" * 7_000
    archive(services, event(properties={long: 1, "a\x00b": 2, "": 3, "'; --": 4, "ä \\": 5}))

    assert sorted(properties(services).values()) == [1] * 5
    assert {"", "'; --", "ä \\"} <= properties(services).keys()
    assert max(map(len, properties(services))) <= 201


def test_names_past_the_cap_are_counted_together(services: Services) -> None:
    names = [f"name_{n:04}" for n in range(MOST_PROPERTIES - 1)]
    archive(services, event(properties=dict.fromkeys(names, 1)))
    archive(
        services, event(properties={"new_1": 1, "new_2": 1}), event("sale", properties={"x": 1})
    )
    archive(services, event(properties={"new_2": 1, "new_1": 1, names[0]: 1, OTHER: 1}))

    found = properties(services)
    assert len(found) == MOST_PROPERTIES + 1
    assert (found[names[0]], found["new_1"], found[OTHER]) == (2, 2, 3)
    assert properties(services, "sale") == {"x": 1}


def test_archivers_at_once_admit_no_more_names_than_the_cap(services: Services) -> None:
    def enter(number: int) -> None:
        names = {f"name_{number}_{n}": 1 for n in range(MOST_PROPERTIES // 2)}
        raw = msgspec.Raw(json.dumps(names).encode())
        found = RawEvents(["page_view"], ["2025-03-01T10:00:00Z"], [None], [raw], [None])
        with services.archive.transaction() as connection:
            catalogue.enter(connection, [found])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(enter, range(4)))

    found = properties(services)
    assert len(found) == MOST_PROPERTIES + 1
    assert sum(found.values()) == 2 * MOST_PROPERTIES


def test_a_removed_type_is_part_of_the_rest_and_its_properties_go(services: Services) -> None:
    archive(services, event("junk_1", properties={"x": 1}), event("junk_2"), event())

    for _ in range(2):
        services.remove_types(["junk_1", "junk_2"], TODAY)

    assert types(services) == {OTHER: (2, NOW), "page_view": (1, NOW)}
    assert execute(services, "SELECT count(*) FROM analytics_event_properties") == [(0,)]


def test_an_event_without_its_user_counts_on(make_services: MakeServices) -> None:
    services = make_services(count_by={"page_view": ["path"]})
    archive(services, event(user_id="u1", properties={"path": "/", "secret": "x"}))

    services.erase_user("u1")

    assert properties(services) == {"path": 1, "secret": 1}


@given(st.lists(st.none() | st.dictionaries(st.text(), json_values_of(st.text()), max_size=4)))
def test_names_are_those_of_the_objects(objects: list[dict[str, Any] | None]) -> None:
    raws = [msgspec.Raw(msgspec.json.encode(one)) for one in objects]
    n = len(raws)
    sightings = Sightings()
    sightings.add(RawEvents(["x"] * n, ["2025-03-01T10:00:00Z"] * n, [None] * n, raws, [None] * n))

    assert sightings.types.total() == n
    assert sightings.properties.total() == sum(len(one or {}) for one in objects)


@pytest.mark.parametrize("bad", [b"[]", b"1", b'{"a"', b'{"\xff":1}'])
def test_what_is_no_object_has_no_names(bad: bytes) -> None:
    raws = [msgspec.Raw(b'{"a":1}'), msgspec.Raw(bad)]
    sightings = Sightings()
    sightings.add(RawEvents(["x", "x"], ["2025-03-01T10:00:00Z"] * 2, [None] * 2, raws, [None] * 2))

    assert dict(sightings.types) == {"x": 2}
    assert dict(sightings.properties) == {("x", "a"): 1}


def test_an_archive_worker_of_the_version_before_stores_nothing_and_loses_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave out the catalogue, and the seals of days that are packed."""
    count_events(services, event(properties={"path": "/"}))
    of_before = text(
        str(archive_module._ENTER_ENTRIES)
        .replace(", form", "")
        .replace("clock_timestamp(), 2", "now()")
    )
    with monkeypatch.context() as version:
        version.setattr(archive_module, "_ENTER_ENTRIES", of_before)
        with pytest.raises(IntegrityError, match="form"):
            services.archive_events()
    assert execute(services, "SELECT count(*) FROM events") == [(0,)]

    assert eventually(services.archive_events) == 1
    assert services.status()["dead_letters"] == 0
