"""Which traces a message carries, and which of them a batch links to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer, format_span_id, format_trace_id

from pipeline.contract import TRACK_EVENT, TRACK_EVENTS
from pipeline.producer.app import app
from pipeline.producer.publisher import Envelope, TracedEnvelope
from pipeline.traces.carried import (
    MOST_LINKS,
    continued,
    describe_trace,
    find_links,
    make_headers,
    sharing,
)


@pytest.fixture
def tracer() -> Tracer:
    return TracerProvider(shutdown_on_exit=False).get_tracer("shop")


def make(envelope: Envelope) -> dict[str, Any]:
    args, kwargs = ("sale",), {"properties": {"said": '"headers": {"traceparent": "x"'}}
    message: dict[str, Any] = json.loads(envelope.message("id", "tag", args, kwargs, repr(args)))
    return message


def trace_id(number: int) -> str:
    return f"{number:032x}"


def carrying(*headers: dict[str, Any]) -> Iterator[bytes]:
    for one in headers:
        yield json.dumps({"body": "", "headers": {"task": "x"} | one}).encode()


def traceparent(number: int, flags: str = "01") -> str:
    return f"00-{trace_id(number)}-{number:016x}-{flags}"


def linked(*headers: dict[str, Any]) -> list[str]:
    links, _ = find_links(carrying(*headers))
    return [format_trace_id(one.context.trace_id) for one in links]


def test_a_message_differs_by_its_headers_only(tracer: Tracer) -> None:
    plain = make(Envelope(app, TRACK_EVENT, "q"))
    traced = TracedEnvelope(app, TRACK_EVENT, "q")
    with tracer.start_as_current_span("order") as span:
        carried = make(traced)
    mine = span.get_span_context()
    ids = f"{format_trace_id(mine.trace_id)}-{format_span_id(mine.span_id)}"
    version, *found, flags = carried["headers"].pop("traceparent").split("-")
    assert (version, "-".join(found), int(flags, 16) & 1) == ("00", ids, 1)
    assert carried == plain == make(traced)


def test_a_trace_that_is_not_recorded_is_not_carried() -> None:
    unsampled = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False).get_tracer("shop")
    with unsampled.start_as_current_span("order"):
        assert make_headers() == {}


def test_a_message_of_several_requests_carries_the_trace_of_each() -> None:
    traces = [{"traceparent": traceparent(number)} for number in (1, 1, 2)]
    with sharing([*traces, {}]):
        message = TracedEnvelope(app, TRACK_EVENTS, "q").message_of_events("id", "tag", [b"{}"])
    links, seen = find_links([message])
    assert [one.context.trace_id for one in links] == [1, 2]
    assert seen == 1


def test_links_are_few_and_each_trace_has_one() -> None:
    many = [{"traceparent": traceparent(number)} for number in range(1, 2 * MOST_LINKS)]
    links, seen = find_links(carrying(*many, *many))
    assert len(links) == MOST_LINKS
    assert seen == len(many)
    shared = {"analytics_traceparents": [one["traceparent"] for one in many]}
    assert len(linked({"traceparent": traceparent(1)} | shared)) == MOST_LINKS


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": traceparent(1, "00")},
        {"traceparent": traceparent(0)},
        {"traceparent": "nonsense"},
        {"traceparent": 7},
        {"traceparent": None, "analytics_traceparents": "x"},
        {"argsrepr": f'"traceparent": "{traceparent(1)}"'},
    ],
)
def test_what_is_no_recorded_trace_is_not_linked(headers: dict[str, Any]) -> None:
    assert linked(headers) == []


def test_what_is_no_message_is_not_linked() -> None:
    assert find_links([b'"traceparent"', b'\xff"traceparent": "x"', b""])[0] == []


def test_a_task_goes_on_with_the_trace_of_its_message() -> None:
    with continued({"traceparent": traceparent(1)}):
        assert describe_trace()["traceparent"] == traceparent(1)
        assert linked() == [trace_id(1)]
    with continued({}):
        assert describe_trace() == {}
