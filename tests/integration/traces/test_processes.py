"""Traces of real processes, at a real receiver: from a caller over the collector to the batch."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from celery import Celery
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from pipeline import track_event
from pipeline.access.key_store import AccessKeyStore
from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, FLUSH_QUEUE
from pipeline.producer.app import configure
from pipeline.services import Services
from tests.helpers.support import Workers, eventually, stored_total
from tests.helpers.web_process import WebProcess, wait_until_consumed
from tests.integration.traces.receiver import Receiver, Span, receiving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSAMPLED = "1bf7651916cd43dd8448eb211c80319c"
SECRET = "zqvx"
"""In everything that is sent of a person."""
GLOBAL_PROVIDER = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
"""Has libraries send spans of their own: FastAPI's have paths and queries."""


@pytest.fixture
def receiver(workers: Workers) -> Iterator[Receiver]:
    """Where the processes of a test send their spans, soon."""
    with receiving() as found:
        workers.environment |= {
            "ANALYTICS_TRACES": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": found.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        yield found


def test_a_trace_goes_from_its_caller_over_the_collector_to_the_batch(
    services: Services, workers: Workers, receiver: Receiver, tmp_path: Path
) -> None:
    workers.start("events")
    (tmp_path / "sitecustomize.py").write_text(GLOBAL_PROVIDER)
    workers.environment["PYTHONPATH"] = str(tmp_path)
    web = WebProcess(workers).start()
    store = AccessKeyStore(services.redis, services.keys)
    _, key = store.create("write", "shop")
    _, token = store.create("read", "shop")
    with httpx.Client(base_url=web.origin, headers={"User-Agent": SECRET}) as client:
        event = {"event_type": "page_view", "user_id": SECRET, "properties": {"path": f"/{SECRET}"}}
        for trace, flags in ((TRACE, "01"), (UNSAMPLED, "00")):
            headers = {
                "Authorization": f"Bearer {key}",
                "traceparent": f"00-{trace}-{SPAN}-{flags}",
                "baggage": f"user={SECRET}",
            }
            assert client.post("/track", json=event, headers=headers).status_code == 200
        client.post(f"/k/{key}/track?of={SECRET}", json=event)
        read = f"/api/users/{SECRET}%2F1?first=2026-01-01&of={SECRET}"
        client.get(read, headers={"Authorization": f"Bearer {token}"})
        client.get(f"/dashboard/types/{SECRET}")
        client.get(f"/nothing/{SECRET}")
        client.get("/livez")
    wait_until_consumed(services)
    names = {"POST /track", "count batch", "GET /api/users/{user_id}"}
    eventually(lambda: names <= {one.name for one in receiver.spans}, what="all spans")
    eventually(lambda: len(receiver.named("POST /track")) == 2 and receiver.named("GET"))
    [taken] = [one for one in receiver.spans if one.trace_id == TRACE]
    assert (taken.name, taken.parent_id, taken.kind) == ("POST /track", SPAN, "SERVER")
    assert taken.service == "analytics-web"
    assert taken.attributes == {
        "http.request.method": "POST",
        "http.route": "/track",
        "http.response.status_code": 200,
    }
    [batch] = find_linked(receiver, taken.trace_id, taken.span_id)
    assert (batch.service, batch.kind, batch.parent_id) == ("analytics-events", "CONSUMER", "")
    assert batch.attributes["analytics.counted"] >= 1
    assert not any("livez" in one.name or one.trace_id == UNSAMPLED for one in receiver.spans)
    for secret in (SECRET, key, token, "page_view", "127.0.0.1"):
        assert secret.encode() not in receiver.raw, secret
    assert services.status()["books"]["counted"] == 3


def test_a_trace_of_an_application_is_linked_and_runs_have_their_rows(
    services: Services, workers: Workers, receiver: Receiver, redis_url: str
) -> None:
    workers.start("events")
    workers.start("flush")
    configure(redis_url=redis_url, traces=True)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("shop")
    token = context.attach(baggage.set_baggage("user", SECRET))
    with tracer.start_as_current_span("order") as order:
        track_event.delay("sale", user_id=SECRET)
        track_event.apply_async(("sale",), priority=3)  # Celery's own way
    context.detach(token)
    track_event.delay("sale")
    wait_until_consumed(services)
    mine = order.get_span_context()
    wanted = format_trace_id(mine.trace_id), format_span_id(mine.span_id)

    def counted(batches: list[Span]) -> int:
        return sum(one.attributes["analytics.counted"] for one in batches)

    eventually(lambda: counted(receiver.named("count batch")) == 3, what="a span of each batch")
    assert counted(find_linked(receiver, *wanted)) >= 2
    for task in (FLUSH_COUNTERS, ARCHIVE_EVENTS):
        Celery(broker=redis_url).send_task(task, queue=FLUSH_QUEUE)
    eventually(lambda: stored_total(services) == 3)
    for run_name, batch_name in (
        ("flush_counters", "store batch"),
        ("archive_events", "archive batch"),
    ):
        [run] = eventually(lambda name=run_name: receiver.named(name))
        [batch] = eventually(lambda name=batch_name: receiver.named(name))
        assert (batch.trace_id, batch.parent_id) == (run.trace_id, run.span_id)
        assert batch.attributes["analytics.rows"] == run.attributes["analytics.rows"] >= 1
        assert run.service == "analytics-flush"
    assert SECRET.encode() not in receiver.raw


def test_a_collector_that_never_answers_holds_up_neither_events_nor_the_end(
    services: Services, workers: Workers, receiver: Receiver, sending: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        workers.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = (
            f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        # So small that it is full, and spans are dropped.
        workers.environment |= {
            "OTEL_BSP_MAX_QUEUE_SIZE": "2",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
        }
        worker = workers.start("events")
        for number in range(20):
            track_event.delay("sale", event_id=str(number))
            wait_until_consumed(services)
        assert services.status()["books"]["counted"] == 20
        assert worker.stop(timeout_s=10) == 0
    assert not receiver.spans


def find_linked(receiver: Receiver, trace_id: str, span_id: str) -> list[Span]:
    """The spans of batches that link to a span."""
    return [one for one in receiver.named("count batch") if (trace_id, span_id) in one.links]
