"""Spans of batches, and that no fault in them touches a count."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.trace import NoOpTracer

from pipeline.services import Services
from pipeline.traces.spans import trace_with
from tasks.worker.traced_applying import TracedApplying
from tests.helpers.support import event, fetched


class _Broken(NoOpTracer):
    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("a fault")


@pytest.fixture
def _broken() -> Iterator[None]:
    trace_with(_Broken())
    yield
    trace_with(None)


@pytest.mark.usefixtures("_broken")
def test_a_batch_whose_span_fails_is_counted_once(services: Services) -> None:
    services.counters.applying = TracedApplying
    delivery = fetched(services, "t1", event())
    applied = services.counters.apply_or_bury([delivery], datetime.now(UTC))
    assert (applied.counted, applied.dead) == (1, 0)
    assert services.status()["dead_letters"] == 0
