"""The collector: takes the events of a request, and returns when they are published.

A request passes, in this order: its body is read (size, memory, timeout), the address's rate limit,
the access key, the parser with the key's scope, the key's rate limit, the publisher.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import Receive

from pipeline.access.access_key import AccessKey
from pipeline.errors import ServerUnavailable
from pipeline.web.collector.batching import BatchingPublisher
from pipeline.web.collector.bodies import MemoryBudget, read_body, unpack_body
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import MAX_EVENT_BYTES, ParsedEvents
from pipeline.web.collector.formats.segment import find_write_key
from pipeline.web.collector.rate_limits import RateLimit
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.collector.scope import KeyRates, check_origin
from pipeline.web.collector.timeouts import SharedTimeout
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


@dataclass(frozen=True)
class EventFormat:
    """How one route takes events and answers: `parse` gets the body, or the query where the method
    is GET."""

    parse: Callable[[bytes, EventEncoder], ParsedEvents]
    max_bytes: int = MAX_EVENT_BYTES
    method: str = "POST"
    status: int = 200
    media_type: bytes = JSON
    body: bytes = b'{"success":true}'
    error_content: Callable[[RequestRefused], object] = error_content


class Collector:
    """Everything behind the collector's routes. One for each event loop."""

    def __init__(self, dependencies: WebDependencies) -> None:
        options, client = dependencies.options, dependencies.redis
        keys = dependencies.services.keys
        self._user_id_secret = options.user_id_secret
        self._access_keys = dependencies.access_keys
        self._memory = MemoryBudget(options.max_waiting_bytes)
        self._publish_timeout = SharedTimeout(options.publish_timeout_s)
        self._publisher = BatchingPublisher()
        self._address_limit = RateLimit(client, keys, "address", options.address_requests_per_s)
        self._key_rates = KeyRates(
            client, keys, options.key_events_per_s, options.page_key_events_per_s
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is entered, events are published."""
        async with self._publisher.running():
            yield
        self._address_limit.close()
        self._key_rates.close()

    async def take(
        self, head: RequestHead, receive: Receive, event_format: EventFormat
    ) -> ParsedEvents:
        """The events of a request; when this returns, they are accepted.

        Raises `RequestRefused`, with none of them accepted as far as is known, and `ClientGone`.
        """
        if head.declared_bytes > event_format.max_bytes:
            raise TooLarge.for_body(event_format.max_bytes)
        task, body = asyncio.current_task(), b""
        if event_format.method == "POST":
            body = await read_body(receive, event_format.max_bytes, self._memory)
        try:
            with self._publish_timeout.limit(task):
                return await self._accept(head, body, event_format)
        except (TimeoutError, ServerUnavailable) as error:
            raise Unavailable(
                "the events could not be accepted in time; send them again under the same ids"
            ) from error
        finally:
            self._memory.give_back(len(body))

    async def _accept(
        self, head: RequestHead, body: bytes, event_format: EventFormat
    ) -> ParsedEvents:
        wait_s = await self._address_limit.take(head.address, 1)
        if wait_s > 0:
            raise TooManyRequests("requests from this address", wait_s)
        presented = head.find_key()
        key = await self._check_key(presented, head) if presented else None
        content = head.query
        try:
            if event_format.method == "POST":
                encoding = head.headers.get(b"content-encoding", b"")
                content = unpack_body(body, encoding, event_format.max_bytes)
        except RequestRefused:
            # Only a client with a valid key learns what is wrong with its body.
            if key is None:
                await self._check_key("", head)
            raise
        if key is None:
            key = await self._check_key(find_write_key(content), head)
        parsed = event_format.parse(content, head.create_encoder(self._user_id_secret, key))
        parsed.check()
        await self._key_rates.take(key, len(parsed.events))
        size = sum(map(len, parsed.events))
        self._memory.take(size)
        try:
            await self._publisher.publish(parsed.events)
        finally:
            self._memory.give_back(size)
        return parsed

    async def _check_key(self, presented: str, head: RequestHead) -> AccessKey:
        key = await self._access_keys.check_async("write", presented) if presented else None
        if key is None:
            raise Unauthorised(
                "a valid write key is needed: as user name of HTTP Basic, as bearer token, or as "
                "the parameter key; `analytics keys create write` makes one"
            )
        check_origin(key, head)
        return key

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may use any write key, and so read responses."""
        return bool(origin) and self._access_keys.allows_origin(origin)

    async def refresh_keys(self) -> None:
        """Have the write keys in memory, at no cost while they are. Raises `ServerUnavailable`."""
        await self._access_keys.refresh_async()
