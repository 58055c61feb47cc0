"""A span for each batch of events, with links to the traces that its messages carry."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from pipeline.counting.apply import Applying, Counters
from pipeline.counting.batch import OUTCOMES, Applied, Delivery
from pipeline.traces.carried import find_links
from pipeline.traces.spans import find_tracer

logger = logging.getLogger(__name__)


class TracedApplying(Applying):
    """An apply whose span begins when it is sent and ends when Redis has counted the batch. One
    that is cut off has none; the next, which counts what is left, has."""

    def __init__(self, counters: Counters, deliveries: Sequence[Delivery], now: datetime) -> None:
        self._began_ns = time.time_ns()
        self._messages = [delivery.raw for delivery in deliveries]
        super().__init__(counters, deliveries, now)

    def finish(self) -> Applied:
        applied = super().finish()
        try:
            self._record(applied)
        except Exception:  # what is counted must not become a dead letter
            logger.exception("a batch has no span")
        return applied

    def _record(self, applied: Applied) -> None:
        tracer = find_tracer()
        if tracer is None:
            return
        links, traces = find_links(self._messages)
        attributes = {f"analytics.{name}": getattr(applied, name) for name in OUTCOMES}
        attributes["messaging.batch.message_count"] = len(self._messages)
        attributes["analytics.traces"] = traces
        # Of no one message's trace, and so without a parent.
        where, kind = Context(), SpanKind.CONSUMER
        tracer.start_span("count batch", where, kind, attributes, links, self._began_ns).end()
