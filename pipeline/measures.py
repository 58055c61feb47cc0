"""What processes measure of their work: every measure with its unit, labels and meaning.

A measure costs nothing until `measure_with` names who keeps the numbers (`pipeline.metrics`), and
what is measured here is a batch, a run or a request, never an event. Labels are bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LONG_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_EVENTS = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000)
_ROWS = (10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000)


@dataclass(frozen=True)
class Measure:
    """A counter, or with `buckets` (upper bounds, ascending) a histogram. `name` is without the
    prefix of all metrics, and says its unit; a counter's ends in `_total`."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()

    def note(self, number: float, *labels: str) -> None:
        """Add a number to the counter, or an observation to the histogram; `labels` are the values
        of its labels."""
        if _keep is not None:
            _keep(self, number, labels)


Keep = Callable[[Measure, float, tuple[str, ...]], None]
_keep: Keep | None = None


def measure_with(keep: Keep | None) -> None:
    """Have this process's numbers kept; None: no longer."""
    global _keep  # noqa: PLW0603 - of this process, as its log is
    _keep = keep


def is_measured() -> bool:
    """Whether anything keeps the numbers."""
    return _keep is not None


EVENTS = Measure(
    "worker_events_total",
    "events that workers have taken from the queue, by what became of them: `counted`, "
    "`duplicate`, `dead`, `forgotten`, `expired`",
    ("outcome",),
)
APPLY_S = Measure(
    "apply_duration_seconds",
    "time from the sending of a batch to the answer that Redis has counted it; an event worker "
    "makes the next batch ready meanwhile",
    buckets=_SECONDS,
)
APPLY_EVENTS = Measure("apply_batch_events", "events of such a batch", buckets=_EVENTS)
PUBLISH_S = Measure(
    "publish_duration_seconds",
    "time in which the collector published a message, by outcome: `accepted`, `refused`",
    ("outcome",),
    _SECONDS,
)
PUBLISH_EVENTS = Measure(
    "publish_batch_events", "events of a message of the collector's", buckets=_EVENTS
)
RUN_S = Measure(
    "task_duration_seconds",
    "time of a run, by task (`flush_counters`, `archive_events`, `move_dead_letters`, "
    "`repair_counters`, `maintain`, `audit`, `recount`, `prune`) and outcome: `done`, `failed`",
    ("task", "outcome"),
    _LONG_SECONDS,
)
FLUSH_S = Measure(
    "flush_batch_duration_seconds",
    "time from the claim of a batch of counters to its commit in Postgres",
    buckets=_LONG_SECONDS,
)
FLUSH_COUNTERS = Measure("flush_batch_counters", "counters of such a batch", buckets=_ROWS)
ARCHIVE_S = Measure(
    "archive_batch_duration_seconds",
    "time in which a batch of raw events was read from the event log and committed in Postgres",
    buckets=_LONG_SECONDS,
)
ARCHIVE_EVENTS = Measure("archive_batch_events", "raw events of such a batch", buckets=_ROWS)
HTTP_S = Measure(
    "http_request_duration_seconds",
    "time from the head of a request to the end of its response, by part of the web server "
    "(`collector`, `api`, `dashboard`, `health`) and class of the status (`2xx`, …)",
    ("part", "status"),
    _SECONDS,
)
MEASURES = (
    *(EVENTS, APPLY_S, APPLY_EVENTS, PUBLISH_S, PUBLISH_EVENTS, RUN_S),
    *(FLUSH_S, FLUSH_COUNTERS, ARCHIVE_S, ARCHIVE_EVENTS, HTTP_S),
)


@contextmanager
def timed(measure: Measure, *labels: str) -> Iterator[None]:
    """Note how long the block takes, whether it fails or not."""
    began_s = time.monotonic()
    try:
        yield
    finally:
        measure.note(time.monotonic() - began_s, *labels)
