"""Spans of batches, runs and requests. Until `trace_with` names a tracer nothing is recorded, and
OpenTelemetry is not loaded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Attributes = dict[str, str | int]

ROWS = "analytics.rows"
"""Attribute: the counters, events, days or partitions that a span stored, archived or dropped."""

_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """Have this process's spans recorded by a tracer; None: no longer."""
    global _tracer  # noqa: PLW0603 - of this process, as its log is
    _tracer = tracer


def find_tracer() -> Tracer | None:
    """The tracer that records this process's spans; None where none are recorded."""
    return _tracer


@contextmanager
def span(name: str) -> Iterator[Attributes]:
    """A span around the block, with the attributes that the block puts into the dictionary. Of an
    exception it has the type alone: the text may quote a row."""
    attributes: Attributes = {}
    if _tracer is None:
        yield attributes
        return
    from opentelemetry.trace import StatusCode

    with _tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield attributes
        except BaseException as error:
            attributes["error.type"] = type(error).__qualname__
            current.set_status(StatusCode.ERROR)
            raise
        finally:
            current.set_attributes(attributes)


def note_span(name: str, began_s: float, attributes: Mapping[str, str | int]) -> None:
    """A span that began at `began_s` (monotonic) and ends now, within the span around it."""
    if _tracer is not None:
        began_ns = time.time_ns() - int((time.monotonic() - began_s) * 1e9)
        _tracer.start_span(name, attributes=attributes, start_time=began_ns).end()
