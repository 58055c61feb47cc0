"""What a span has, and which are recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, TraceFlags

from pipeline.errors import InvalidConfiguration
from pipeline.traces.exporting import begin, follow_links
from pipeline.traces.spans import ROWS, find_tracer, note_span, span, trace_with


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(provider.get_tracer("test"))
    yield exporter
    trace_with(None)


def test_a_span_has_what_its_block_notes(recorded: InMemorySpanExporter) -> None:
    with span("flush_counters") as noted:
        note_span("store batch", 0.0, {ROWS: 2})
        noted[ROWS] = 3
    batch, run = recorded.get_finished_spans()
    assert (batch.name, batch.attributes, run.attributes) == ("store batch", {ROWS: 2}, {ROWS: 3})
    assert batch.parent == run.get_span_context()


def test_of_an_error_a_span_has_the_type_and_no_text(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="of user u1"), span("prune"):
        raise ValueError("of user u1")
    [failed] = recorded.get_finished_spans()
    assert failed.attributes == {"error.type": "ValueError"}
    assert not failed.status.is_ok
    assert "u1" not in failed.to_json()


def test_off_nothing_is_recorded() -> None:
    with span("prune") as noted:
        noted[ROWS] = 1
        note_span("store batch", 0.0, {})


@pytest.mark.parametrize(
    ("chosen", "with_links", "without"),
    [
        (sampling.DEFAULT_ON, 1, 1),
        (sampling.DEFAULT_OFF, 1, 0),
        (sampling.ParentBasedTraceIdRatio(0.0), 1, 0),
        (sampling.ALWAYS_OFF, 0, 0),
    ],
)
def test_a_batch_with_links_is_recorded_where_what_it_links_to_is(
    chosen: sampling.Sampler, with_links: int, without: int
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(follow_links(chosen), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    link = Link(SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(1)))

    def count(links: list[Link]) -> int:
        tracer.start_span("count batch", Context(), links=links).end()
        found: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
        exporter.clear()
        return len(found)

    assert (count([link]), count([])) == (with_links, without)


def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(InvalidConfiguration, match="OTEL_BSP_"):
        begin("events")
    assert find_tracer() is None
