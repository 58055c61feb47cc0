"""Traces in messages: W3C Trace Context in the headers, where OpenTelemetry's instrumentation of
Celery has it too. Imported where traces are on.

Only traces that are recorded are carried. Baggage is not: it is the application's, and may name
users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

MOST_LINKS = 100
"""Of a span, and of a message of the collector's."""
_OTHERS = "analytics_traceparents"
"""Header: further traces, of a message whose events are of several requests."""
_NAMES = ("traceparent", "tracestate")
_MARK = b'"traceparent"'
_MARKED = 72
"""Bytes from there to the end of its value."""

Carried = dict[str, str]
"""A trace as headers: none where it is not recorded."""

_propagator = TraceContextTextMapPropagator()
_shared: ContextVar[Sequence[Carried]] = ContextVar("analytics_shared_traces", default=())


class _Headers(msgspec.Struct):
    traceparent: Any = None
    tracestate: Any = None
    analytics_traceparents: Any = None


class _Message(msgspec.Struct):
    headers: _Headers


_read_message = msgspec.json.Decoder(_Message).decode


def describe_trace() -> Carried:
    """The trace that this call is part of."""
    headers: Carried = {}
    if get_current_span().get_span_context().trace_flags.sampled:
        _propagator.inject(headers)
    return headers


@contextmanager
def sharing(traces: Iterable[Carried]) -> Iterator[None]:
    """Have messages made in the block carry these traces, one each at most and `MOST_LINKS` in
    all."""
    found = {one["traceparent"]: one for one in traces if one}
    token = _shared.set(list(found.values())[:MOST_LINKS])
    try:
        yield
    finally:
        _shared.reset(token)


def make_headers() -> dict[str, Any]:
    """The headers of a message made now."""
    first, *others = _shared.get() or (describe_trace(),)
    return {**first, _OTHERS: [one["traceparent"] for one in others]} if others else {**first}


def read_trace(find: Callable[[str], Any]) -> Context:
    """The context of a trace, of what `find` has under the names of its headers; an empty one where
    that is none."""
    given = {name: value for name in _NAMES if isinstance(value := find(name), str)}
    return _propagator.extract(given, Context())


@contextmanager
def continued(headers: Mapping[str, Any]) -> Iterator[None]:
    """Be part, for the block, of the trace that a message carries; that of the caller where there
    is none."""
    found = read_trace(headers.get)
    token = contexts.attach(found) if found else None
    try:
        yield
    finally:
        if token is not None:
            contexts.detach(token)


def find_links(messages: Iterable[bytes]) -> tuple[list[Link], int]:
    """Links to the traces that raw messages carry and to the caller's own, `MOST_LINKS` at most;
    and how many the messages carry."""
    found: dict[tuple[int, int], SpanContext] = {}
    seen: set[bytes] = set()
    for context in _read_contexts(messages, seen):
        if len(found) < MOST_LINKS and context.is_valid and context.trace_flags.sampled:
            found[context.trace_id, context.span_id] = context
    return [Link(one) for one in found.values()], len(seen)


def _read_contexts(messages: Iterable[bytes], seen: set[bytes]) -> Iterator[SpanContext]:
    yield get_current_span().get_span_context()
    for raw in messages:
        # No text in JSON has quotes as they are, so this is the name of a header.
        at = raw.rfind(_MARK)
        marked = raw[at : at + _MARKED]
        if at < 0 or marked in seen:
            continue
        seen.add(marked)
        if len(seen) <= MOST_LINKS:
            yield from _read_contexts_of(raw)


def _read_contexts_of(raw: bytes) -> Iterator[SpanContext]:
    try:
        headers = msgspec.structs.asdict(_read_message(raw).headers)
    except (msgspec.DecodeError, UnicodeError):
        return
    others = headers.pop(_OTHERS)
    texts = others[:MOST_LINKS] if isinstance(others, list) else []
    for one in (headers, *({"traceparent": text} for text in texts)):
        yield get_current_span(read_trace(one.get)).get_span_context()
