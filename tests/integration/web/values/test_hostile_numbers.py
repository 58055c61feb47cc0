"""Whatever a client sends as a number that is summed: through every door it is right in the sum, is
counted as no number, or is refused by its name, and the events beside it are counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline import track_event
from pipeline.errors import InvalidEvent
from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.conftest import MakeServices
from tests.helpers.support import fetch
from tests.helpers.web_process import lately
from tests.helpers.web_server import WebServer

BROWSER = {"Origin": "https://a.example", "User_Agent": "Mozilla/5.0 (X11) Firefox/140.0"}
NUMBERS = {
    "-12.5": "-12.50",
    "7": "7",
    "1e18": "1000000000000000000",
    "0.005": "0.01",
    "-0.005": "-0.01",
    "12.345678901234567890123": "12.35",
    "123456789012345.67": "123456789012345.67",
    "-0.0": "0",
    "1e-400": "0",
    '"12.50"': "12.50",
    '"-0.125"': "-0.13",
}
NO_NUMBERS = (
    *("null", "true", "[1]", '{"a": [1]}', '"abc"', '"1e5"', '" 1"', '"\u0661"', '""'),
    *("1e300", "-1e300", "1" + 20 * "0", "-1" + 40 * "0", '"1' + 40 * "0" + '"'),
)
REFUSED = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400")

SALE = '"properties": {"total": %s}'
DOORS = {
    "/track": f'{{"event_type": "sale", {SALE}}}',
    "/v1/track": f'{{"event": "sale", "userId": "u", {SALE}}}',
    "/capture": f'{{"event": "sale", "distinct_id": "u", {SALE}}}',
    "/api/event": '{"name": "sale", "url": "https://a.example/", "props": {"total": %s}}',
    "/api/event, revenue": (
        '{"name": "sale", "url": "https://a.example/", "revenue": {"amount": %s}}'
    ),
}
BATCHES = {
    "/v1/batch": (
        f'{{"batch": [{{"type": "track", "event": "sale", "userId": "u", {SALE}}},'
        f' {{"type": "track", "event": "sale", "userId": "u", {SALE % 7}}}]}}'
    ),
    "/batch": (
        f'{{"batch": [{{"event": "sale", "distinct_id": "u", {SALE}}},'
        f' {{"event": "sale", "distinct_id": "u", {SALE % 7}}}]}}'
    ),
}


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(sum={"sale": {"total": 2, "revenue": 2}})


@pytest.fixture
def count(services: Services) -> Callable[[str], PropertySum]:
    """Counts what was sent, as a worker does; returns the sum of a property since the last time."""
    before: dict[str, PropertySum] = {}

    def count_sent(name: str = "total") -> PropertySum:
        now = datetime.now(UTC)
        reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
        services.counters.apply([read.delivery for read in reads if read], now)
        last, found = (
            before.get(name, PropertySum()),
            services.stats.sums.read_sum("sale", name, *lately()),
        )
        before[name] = found
        return PropertySum(
            found.sum - last.sum, found.count - last.count, found.not_numbers - last.not_numbers
        )

    return count_sent


def expect(literal: str) -> PropertySum:
    """What one event with this comes to."""
    if literal in NUMBERS:
        return PropertySum(Decimal(NUMBERS[literal]), 1)
    return PropertySum(not_numbers=literal in NO_NUMBERS)


@pytest.mark.parametrize("door", DOORS)
def test_a_body_with_any_value_is_summed_or_refused_by_the_name_of_its_property(
    web: WebServer, count: Callable[[str], PropertySum], door: str
) -> None:
    path, _, name = door.partition(", ")
    for literal in (*NUMBERS, *NO_NUMBERS, *REFUSED):
        answer = web.post(path, (DOORS[door] % literal).encode(), **BROWSER)
        assert answer.status == (400 if literal in REFUSED else 202 if "api" in path else 200)
        if literal in REFUSED:
            said = answer.body.decode()
            assert f"properties.{name or 'total'}" in said
            assert "is not a finite number; send null or text" in said
        assert count(name or "total") == expect(literal), literal


@pytest.mark.parametrize("path", BATCHES)
def test_of_a_batch_the_other_events_are_summed(
    web: WebServer, count: Callable[[str], PropertySum], path: str
) -> None:
    for literal in (*NUMBERS, *NO_NUMBERS, *REFUSED):
        answer = web.post(path, (BATCHES[path] % literal).encode(), **BROWSER)
        one = expect(literal)
        assert answer.status == 200, answer.body
        assert count("total") == PropertySum(one.sum + 7, one.count + 1, one.not_numbers), literal


def test_delay_sums_any_value_or_raises_with_the_name_of_its_property(
    sending: None, count: Callable[[str], PropertySum]
) -> None:
    for literal in (*NUMBERS, *NO_NUMBERS):
        track_event.delay("sale", properties={"total": json.loads(literal)})
        assert count("total") == expect(literal), literal
    track_event.delay("sale", properties={"total": Decimal("0.1")})
    assert count("total") == PropertySum(Decimal("0.1"), 1)
    for literal in REFUSED:
        with pytest.raises(InvalidEvent, match=r"properties\.total: is not a finite number"):
            track_event.delay("sale", properties={"total": json.loads(literal)})


def test_an_import_sums_any_value_and_rejects_lines_by_the_name_of_their_property(
    sending: None, count: Callable[[str], PropertySum], analytics: Any, tmp_path: Path
) -> None:
    literals = (*NUMBERS, *REFUSED, *NO_NUMBERS)
    file = tmp_path / "sales.ndjson"
    file.write_text("".join(f"{DOORS['/track'] % literal}\n" for literal in literals))

    _, out, err = analytics("import", f"{file}", "--json")

    report = json.loads(out)
    assert report["sent"] == len(NUMBERS) + len(NO_NUMBERS), err
    first = len(NUMBERS) + 1
    assert [one["line"] for one in report["rejected"]] == list(range(first, first + len(REFUSED)))
    for one, literal in zip(report["rejected"], REFUSED, strict=True):
        named = "properties.total: is not a finite number; send null or text"
        assert one["reason"].startswith((named, f"{literal} is not a JSON number")), one
    assert count("total") == PropertySum(
        sum(map(Decimal, NUMBERS.values()), Decimal()), len(NUMBERS), len(NO_NUMBERS)
    )
