"""Segment's HTTP tracking API: bodies with one call or a batch of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from pipeline.contract import MAX_EVENTS_PER_MESSAGE
from pipeline.errors import InvalidEvent
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import (
    MAX_EVENT_BYTES,
    ParsedEvents,
    ParsingSteps,
    RejectedEvent,
)
from pipeline.web.collector.formats.segment_calls import (
    CALLS,
    Call,
    ClientClock,
    convert_fields,
    encode_call,
    read_clock,
)
from pipeline.web.collector.formats.tolerant import find_any_key, load_tolerant, split_batch
from pipeline.web.errors import EventRefused, RequestRefused, TooLarge

_KNOWN = frozenset(CALLS)
_LONGEST_FIELD = 200
_LONGEST_REASON = 200
_STEP_CALLS = 100
_STEP_BYTES = 64 * 1024
"""Calls, and bytes of them, that are decoded in one step."""


class Batch(Protocol):
    """A batch as it is decoded: of calls, or of what is not decoded yet."""

    @property
    def batch(self) -> Sequence[Any]: ...

    @property
    def sent_at(self) -> Any: ...


class BatchShape(NamedTuple):
    """How the batches of one kind of client are decoded, and the events in them encoded."""

    decode_batch: Callable[[bytes], Batch]
    decode_raw_batch: Callable[[bytes], Batch]
    """Leaves the events as `msgspec.Raw`, each for `decode_event`."""
    decode_event: Callable[[msgspec.Raw | bytes], Any]
    event_type: type[msgspec.Struct]
    """What `decode_event` gives."""
    encode_event: Callable[[Any, ClientClock | None, EventEncoder], bytes]
    names: Mapping[str, str]
    """Of our fields, in the client's words."""


class _Batch(msgspec.Struct, rename="camel", gc=False):
    batch: list[Call]
    sent_at: Any = None


class _RawBatch(msgspec.Struct, rename="camel", gc=False):
    batch: list[msgspec.Raw]
    sent_at: Any = None


class _Key(msgspec.Struct, rename="camel"):
    write_key: str = ""


# Python's own floats: msgspec takes nine microseconds for each 1e308.
_decode_call = msgspec.json.Decoder(Call, float_hook=float).decode
_decode_batch = msgspec.json.Decoder(_Batch, float_hook=float).decode
_decode_raw_batch = msgspec.json.Decoder(_RawBatch).decode
_decode_key = msgspec.json.Decoder(_Key).decode

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def _encode_typed(call: Call, clock: ClientClock | None, encoder: EventEncoder) -> bytes:
    if call.type not in _KNOWN:
        known = ", ".join(CALLS)
        raise InvalidEvent("type", call.type, f"must be one of: {known}")
    return encode_call(call, call.type, clock, encoder)


_SEGMENT = BatchShape(
    _decode_batch,
    _decode_raw_batch,
    _decode_call,
    Call,
    _encode_typed,
    {"event_type": "event", "user_id": "userId", "event_id": "messageId"},
)


def parse_call(call_type: str, body: bytes, encoder: EventEncoder) -> ParsedEvents:
    """The event of a call that came alone, to `/v1/{call_type}`.

    Raises `EventRefused` when the body is no call, or its event is wrong.
    """
    try:
        call = read_event(body, _SEGMENT)
        event = encode_call(call, call_type, read_clock(call.sent_at, encoder), encoder)
    except Exception as error:
        field, reason = explain(error, _SEGMENT.names)
        raise EventRefused(reason, field or None) from None
    return ParsedEvents([event])


def parse_batch(body: bytes, encoder: EventEncoder) -> ParsedEvents:
    """The events of a batch; calls and events that are wrong are rejected by their place.

    Raises `RequestRefused` when the body is no batch, or is empty.
    """
    return next(found for found in parse_batch_in_steps(body, encoder) if found is not None)


def parse_batch_in_steps(
    body: bytes, encoder: EventEncoder, shape: BatchShape = _SEGMENT
) -> ParsingSteps:
    """`parse_batch`, in steps of some milliseconds at most."""
    try:
        if len(body) <= MAX_EVENT_BYTES:
            yield from _encode_batch(shape.decode_batch(body), encoder, shape)
            return
    except (ValueError, RecursionError):
        pass  # which of them it is, is found out below
    try:
        raw = shape.decode_raw_batch(body)
    except (ValueError, RecursionError) as error:
        yield from _parse_split(body, error, encoder, shape)
        return
    yield from _encode_batch(raw, encoder, shape)


def _parse_split(
    body: bytes, error: Exception, encoder: EventEncoder, shape: BatchShape
) -> ParsingSteps:
    """The events of a batch that cannot be decoded as a whole because of some of them."""
    found = None
    try:
        for found in split_batch(body, MAX_EVENTS_PER_MESSAGE):
            if found is None:
                yield None
    except ValueError:
        raise _refuse_batch(error, shape) from None
    if found is None or not found.is_found:
        raise _refuse_batch(error, shape)
    yield from _encode_batch(found, encoder, shape)


def find_write_key(body: bytes) -> str:
    """The key in a body, also where the rest is no call and no batch; empty if it has none."""
    try:
        return _decode_key(body).write_key
    except (ValueError, RecursionError):
        return find_any_key(body, "writeKey")


def _refuse_batch(error: Exception, shape: BatchShape) -> RequestRefused:
    field, reason = explain(error, shape.names)
    return RequestRefused(400, "invalid_batch", reason, field=field or None)


def _encode_batch(whole: Batch, encoder: EventEncoder, shape: BatchShape) -> ParsingSteps:
    items = whole.batch
    parsed = ParsedEvents()
    if len(items) > MAX_EVENTS_PER_MESSAGE:
        raise TooLarge.for_count(len(items), MAX_EVENTS_PER_MESSAGE)
    if not items:
        raise RequestRefused(
            400, "invalid_batch", "has no events; send at least one", field="batch"
        )
    clock = read_clock(whole.sent_at, encoder)
    encode_event, event_type, add = shape.encode_event, shape.event_type, parsed.events.append
    for first in range(0, len(items), _STEP_CALLS):
        if first:
            yield None
        step_bytes = 0
        for index, item in enumerate(items[first : first + _STEP_CALLS], first):
            try:
                if type(item) is not event_type:
                    step_bytes += len(memoryview(item))
                    if step_bytes > _STEP_BYTES:
                        step_bytes = 0
                        yield None
                    item = _decode_item(item, shape)
                add(encode_event(item, clock, encoder))
            except Exception as error:
                parsed.rejected.append(RejectedEvent(index, *explain(error, shape.names)))
    yield parsed


def _decode_item(item: msgspec.Raw | bytes, shape: BatchShape) -> Any:
    size = len(memoryview(item))
    if size > MAX_EVENT_BYTES:
        reason = f"takes {size} bytes; at most {MAX_EVENT_BYTES} are allowed"
        raise InvalidEvent("", "…", reason)
    return read_event(item, shape)


def read_event(raw: msgspec.Raw | bytes, shape: BatchShape) -> Any:
    """An event, mended where the usual decoder refuses it. Raises its error where that is no
    use."""
    try:
        return shape.decode_event(raw)
    except RecursionError:
        raise
    except ValueError as error:
        return _mend_event(raw, error, shape)


def _mend_event(raw: msgspec.Raw | bytes, error: ValueError, shape: BatchShape) -> Any:
    try:
        found = load_tolerant(memoryview(raw))
    except ValueError:
        raise error from None
    if not isinstance(found, dict):
        raise error
    return convert_fields(found, shape.event_type)


def explain(error: Exception, names: Mapping[str, str]) -> tuple[str, str]:
    """The field, in the client's words, and the reason, of what went wrong with an event.

    Raises any other error than a client's again.
    """
    if isinstance(error, InvalidEvent):
        first, dot, rest = error.field.partition(".")
        return (names.get(first, first) + dot + rest)[:_LONGEST_FIELD], error.reason
    if isinstance(error, RecursionError):
        return "", "is nested too deeply; flatten it"
    if isinstance(error, ValueError):  # msgspec's among them, and what is no UTF-8
        said = str(error)
        place = _PLACE.search(said)
        reason = _PLACE.sub("", said)
        return (
            place[1][:_LONGEST_FIELD] if place else ""
        ), f"{reason[:_LONGEST_REASON]}; correct it"
    raise error
