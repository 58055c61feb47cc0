"""The collector: takes the events of a request, and returns when they are published.

A request passes, in this order: the address's rate limit, the access key and its rate, the declared
size; its body is read (size, memory, timeout) and unpacked, the parser with the key's scope, the
key's rate limit, the sessions of visitors where they are wanted, the publisher. Segment's and
PostHog's formats may carry the key in the body: until it is found, before any event is decoded, the
request lives on the small budget of its address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive

from pipeline.access.access_key import AccessKey
from pipeline.errors import ServerUnavailable
from pipeline.web.addresses import widen_address
from pipeline.web.collector.batching import BatchingPublisher
from pipeline.web.collector.bodies import read_body, unpack_body
from pipeline.web.collector.budgets import NETWORK_TIMES, HeldMemory, Memory, UnprovenBytes
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import (
    MAX_EVENT_BYTES,
    ParsedEvents,
    ParsingSteps,
)
from pipeline.web.collector.rate_limits import RateLimit
from pipeline.web.collector.request_head import LONGEST_KEY, RequestHead
from pipeline.web.collector.scope import KeyRates, check_origin
from pipeline.web.collector.timeouts import SharedTimeout
from pipeline.web.collector.visits.visits import create_visits
from pipeline.web.dependencies import WebDependencies
from pipeline.web.errors import (
    RequestRefused,
    TooLarge,
    TooManyRequests,
    Unauthorised,
    Unavailable,
)
from pipeline.web.responses import error_content

JSON = b"application/json"
_BYTES_PER_EVENT = 2_048
"""Bytes of a body that cost as much of a key's rate as an event does."""


@dataclass(frozen=True)
class EventFormat:
    """How one route takes events and answers: `parse` gets the body, or the query where the method
    is GET."""

    parse: Callable[[bytes, EventEncoder], ParsedEvents | ParsingSteps]
    find_key: Callable[[bytes], str] | None = None
    """Finds the access key in a body, for a format that has it there."""
    max_bytes: int = MAX_EVENT_BYTES
    method: str = "POST"
    status: int = 200
    media_type: bytes = JSON
    body: bytes = b'{"success":true}'
    error_content: Callable[[RequestRefused], object] = error_content


_WITHOUT_EVENTS = EventFormat(lambda _body, _encoder: ParsedEvents(), method="GET")
"""Of a request that asks for something else."""


class Collector:
    """Everything behind the collector's routes. One for each event loop."""

    def __init__(self, dependencies: WebDependencies) -> None:
        options, client = dependencies.options, dependencies.redis
        keys = dependencies.services.keys
        self._user_id_secret = options.user_id_secret
        self._access_keys = dependencies.access_keys
        self._visits = create_visits(
            options.page_properties, client, keys, has_sessions=options.sessions
        )
        self._memory = Memory(options.max_waiting_bytes)
        self._unproven = UnprovenBytes()
        # Of servers' keys, and of pages'.
        self._turns = asyncio.Lock(), asyncio.Lock()
        self._publish_timeout = SharedTimeout(options.publish_timeout_s)
        self._publisher = BatchingPublisher()
        per_s = options.address_requests_per_s
        self._address_limit = RateLimit(client, keys, "address", per_s)
        self._network_limit = RateLimit(client, keys, "network", NETWORK_TIMES * per_s)
        self._key_rates = KeyRates(
            client, keys, options.key_events_per_s, options.page_key_events_per_s
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is entered, events are published."""
        async with self._publisher.running():
            yield
        self._address_limit.close()
        self._network_limit.close()
        self._key_rates.close()
        if self._visits is not None:
            self._visits.close()

    async def take(
        self, head: RequestHead, receive: Receive, event_format: EventFormat
    ) -> ParsedEvents:
        """The events of a request; when this returns, they are accepted.

        Raises `RequestRefused`, with none of them accepted as far as is known, and `ClientGone`.
        """
        limit = self._publish_timeout.limit(asyncio.current_task())
        try:
            with limit:
                key = await self._check_head(head, event_format)
            held = self._memory.hold(key, head.address)
            try:
                body = head.query
                if event_format.method == "POST":
                    held.check(head.declared_bytes)
                    take = held.take if key else partial(self._take_unproven, head.address, held)
                    body = await read_body(receive, event_format.max_bytes, take)
                    head.note_body(body)
                with limit:
                    if key is None:
                        key, body = await self._find_key(head, body, event_format)
                        held.move_to(self._memory.hold(key, head.address))
                    return await self._accept(head, body, event_format, key, held)
            finally:
                held.release()
        except (TimeoutError, ServerUnavailable) as error:
            raise Unavailable(
                "the events could not be accepted in time; send them again under the same ids"
            ) from error

    async def check(self, head: RequestHead) -> None:
        """Raise `RequestRefused` unless the head names a valid key that its page may use."""
        try:
            await self._check_head(head, _WITHOUT_EVENTS)
        except ServerUnavailable as error:
            raise Unavailable("the keys cannot be looked up; try again") from error

    async def _check_head(self, head: RequestHead, event_format: EventFormat) -> AccessKey | None:
        """The key that the head names, all checked that can be without the body; None where only
        the body may have it."""
        wait_s = 0.0
        if not self._address_limit.spend(head.address, 1):
            wait_s = await self._address_limit.take(head.address, 1)
        if not wait_s and (network := widen_address(head.address)):
            wait_s = await self._network_limit.take(network, 1)
        if wait_s > 0:
            raise TooManyRequests("requests from this address", wait_s)
        presented = head.find_key()
        key = None
        if presented or event_format.find_key is None:
            key = await self._check_key(presented, head)
            self._key_rates.check(key, head.address, head.declared_bytes)
        else:
            self._unproven.check(head.address)
        if max(head.declared_bytes, len(head.query)) > event_format.max_bytes:
            raise TooLarge.for_body(event_format.max_bytes)
        return key

    def _take_unproven(self, address: str, held: HeldMemory, size: int) -> None:
        held.take(size)
        self._unproven.add(address, size)

    async def _find_key(
        self, head: RequestHead, body: bytes, event_format: EventFormat
    ) -> tuple[AccessKey, bytes]:
        """The key that a body holds, and the body, unpacked."""
        self._unproven.check(head.address)
        unpacked, presented = b"", ""
        assert event_format.find_key is not None
        try:
            unpacked = unpack_body(body, head.encoding, event_format.max_bytes)
            presented = event_format.find_key(unpacked)
        except RequestRefused:  # only a client with a valid key learns what is wrong
            self._unproven.add(head.address, event_format.max_bytes)
        self._unproven.add(head.address, len(unpacked))
        key = await self._check_key(presented, head)
        self._unproven.add(head.address, -len(body) - len(unpacked))
        self._key_rates.check(key, head.address, head.declared_bytes)
        head.encoding = b""
        return key, unpacked

    async def _accept(
        self,
        head: RequestHead,
        body: bytes,
        event_format: EventFormat,
        key: AccessKey,
        held: HeldMemory,
    ) -> ParsedEvents:
        # Until it is unpacked, as much may be in it as ever.
        size = event_format.max_bytes if head.encoding else len(body)
        try:
            body = unpack_body(body, head.encoding, event_format.max_bytes)
            size = len(body)
            encoder = head.create_encoder(self._user_id_secret, key, self._visits)
            parsed = event_format.parse(body, encoder)
            if not isinstance(parsed, ParsedEvents):
                parsed = await self._finish(parsed, key)
            parsed.check()
        except RequestRefused:
            await self._key_rates.take(key, head.address, max(1, size // _BYTES_PER_EVENT))
            raise
        count = len(parsed.events) + len(parsed.rejected)
        await self._key_rates.take(key, head.address, max(count, size // _BYTES_PER_EVENT))
        if encoder.visits is not None:
            parsed.events = await encoder.visits.fill(parsed.events)
        held.resize(sum(map(len, parsed.events)))
        await self._publisher.publish(parsed.events, key.id)
        return parsed

    async def _finish(self, steps: ParsingSteps, key: AccessKey) -> ParsedEvents:
        """The events, parsed a step at a time where they are many: then other requests come in
        between, and of those with many one after the other, pages' apart from servers'."""
        found = next(steps)
        if found is None:
            async with self._turns[bool(key.origins)]:
                while found is None:
                    await asyncio.sleep(0)
                    found = next(steps)
        return found

    async def _check_key(self, presented: str, head: RequestHead) -> AccessKey:
        key = None
        if 0 < len(presented) <= LONGEST_KEY:
            key = await self._access_keys.check_async("write", presented)
        if key is None:
            raise Unauthorised(
                "a valid write key is needed: as user name of HTTP Basic, as bearer token, as the "
                "parameter key, or in the path as /k/KEY/…; `analytics keys create write` makes one"
            )
        check_origin(key, head)
        return key

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may use any write key, and so read responses."""
        return bool(origin) and self._access_keys.allows_origin(origin)

    def names_origin(self, origin: str) -> bool:
        """Whether a write key names this very origin, and not only any."""
        return self._access_keys.names_origin(origin)

    async def refresh_keys(self) -> None:
        """Have the write keys in memory, at no cost while they are. Raises `ServerUnavailable`."""
        await self._access_keys.refresh_async()
