"""Access keys in Redis, which has only the hash of their secrets.

Every process has the keys in memory and reads them again after two seconds, so that a revoked key
is refused within five.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Unpack, cast

import msgspec
import redis
from redis.client import Pipeline

from pipeline.access.access_key import (
    AccessKey,
    KeyKind,
    KeyScope,
    PresentedKey,
    TokenRights,
    create_key,
)
from pipeline.errors import NoSuchAccessKey, PipelineError, ServerUnavailable
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors

_REFRESH_AFTER_S = 2.0
_STALE_AFTER_S = 4.0
"""For how long the keys in memory stay valid while Redis is away."""
_RETRY_AFTER_S = 0.1
"""Between two reads for a key that is not known, or from a Redis that does not answer."""

_decode = msgspec.json.Decoder(AccessKey).decode


class AccessKeyStore:
    """The access keys of one Redis, with a copy in memory. Threads may share it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._redis_key = keys.access
        # By id; and by the text presented, those found valid since they were read. One tuple, so
        # that a reader never sees the one without the other.
        self._copy: tuple[dict[str, AccessKey], dict[str, AccessKey]] = ({}, {})
        self._origins: frozenset[str] = frozenset()
        self._read_at_s = self._tried_at_s = -_STALE_AFTER_S
        self._failure: PipelineError | None = None  # of the last try
        self._lock = threading.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    def create(
        self,
        kind: KeyKind,
        name: str,
        origins: Sequence[str] = (),
        *,
        scope: KeyScope = KeyScope(),  # noqa: B008 — immutable
        **rights: Unpack[TokenRights],
    ) -> tuple[AccessKey, str]:
        """Make a key; returns it and the text that its owner presents, which is stored nowhere.

        Raises `InvalidConfiguration` for an origin or a scope that cannot be, `ServerUnavailable`.
        """
        key, presented = create_key(kind, name, origins, scope=scope, **rights)
        self._store(key)
        return key, presented

    def list(self) -> list[AccessKey]:
        """All keys, revoked ones included, the oldest first. Raises `ServerUnavailable`."""
        self._read()
        return sorted(self._by_id().values(), key=lambda key: (str(key.created_at), key.id))

    def revoke(self, key_id: str) -> AccessKey:
        """Have a key refused from now on, and within five seconds by every process. Idempotent.

        Raises `NoSuchAccessKey`, `ServerUnavailable`.
        """
        return self.change(
            key_id,
            lambda key: (
                key
                if key.revoked_at is not None
                else msgspec.structs.replace(key, revoked_at=datetime.now(UTC))
            ),
        )

    def change(self, key_id: str, edit: Callable[[AccessKey], AccessKey]) -> AccessKey:
        """Store what `edit` makes of a key, and return it; every process knows within five seconds.

        `edit` is called again when another process has changed a key meanwhile: of two changes
        neither is lost. Raises `NoSuchAccessKey`, `ServerUnavailable`, and what `edit` raises.
        """
        with report_errors(redis=self._client):
            self._client.transaction(lambda pipe: self._edit(pipe, key_id, edit), self._redis_key)
        self._read()
        return self._find_by_id(key_id)

    def _edit(self, pipe: Pipeline, key_id: str, edit: Callable[[AccessKey], AccessKey]) -> None:
        self._read()
        key = self._find_by_id(key_id)
        changed = edit(key)
        pipe.multi()
        if changed != key:
            pipe.hset(self._redis_key, key.id, msgspec.json.encode(changed).decode())

    def _find_by_id(self, key_id: str) -> AccessKey:
        # The presented text, with or without the secret, names the key too.
        key = self._by_id().get(key_id) or self._by_id().get(PresentedKey.parse(key_id).id)
        if key is None:
            raise NoSuchAccessKey(
                f"there is no key {key_id!r}: `analytics keys list` shows their ids"
            )
        return key

    def check(self, kind: KeyKind, presented: str) -> AccessKey | None:
        """The valid key of this kind that was presented, or None. May read from Redis.

        Raises `ServerUnavailable` when the keys could not be read for some seconds.
        """
        if self._is_due():
            self._refresh()
        found = self._find(kind, presented)
        if found is None and self._may_be_new(kind, presented):
            self._refresh()
            found = self._find(kind, presented)
        return found

    async def check_async(self, kind: KeyKind, presented: str) -> AccessKey | None:
        """`check` without holding up the event loop."""
        if self._is_due():
            await self._refresh_async()
        found = self._find(kind, presented)
        if found is None and self._may_be_new(kind, presented):
            await self._refresh_async()
            found = self._find(kind, presented)
        return found

    async def find_token_async(self, token_id: str) -> AccessKey | None:
        """The read token with this id, if it is not revoked: for what was shown to hold it. Raises
        `ServerUnavailable` as `check` does."""
        await self.refresh_async()
        key = self._by_id().get(token_id)
        if key is None and time.monotonic() - self._tried_at_s > _RETRY_AFTER_S:
            await self._refresh_async()  # made just now
            key = self._by_id().get(token_id)
        is_valid = key is not None and key.kind == "read" and key.revoked_at is None
        return key if is_valid else None

    async def refresh_async(self) -> None:
        """Read the keys again if that is due. Raises `ServerUnavailable` as `check` does."""
        if self._is_due():
            await self._refresh_async()

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may use any of the write keys, as last read."""
        return origin in self._origins or "*" in self._origins

    def names_origin(self, origin: str) -> bool:
        """Whether a write key names this very origin, and not only any, as last read."""
        return origin in self._origins

    def _by_id(self) -> dict[str, AccessKey]:
        return self._copy[0]

    def _find(self, kind: KeyKind, text: str) -> AccessKey | None:
        by_id, valid = self._copy
        key = valid.get(text)
        if key is not None:
            return key if key.kind == kind else None
        presented = PresentedKey.parse(text)
        key = by_id.get(presented.id)
        if key is None or not key.is_valid_for(kind, presented):
            return None
        valid[text] = key
        return key

    def _is_due(self) -> bool:
        return time.monotonic() - self._read_at_s > _REFRESH_AFTER_S

    def _may_be_new(self, kind: KeyKind, text: str) -> bool:
        presented = PresentedKey.parse(text)
        is_unknown = presented.is_of(kind) and presented.id not in self._by_id()
        return is_unknown and time.monotonic() - self._tried_at_s > _RETRY_AFTER_S

    async def _refresh_async(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(asyncio.to_thread(self._refresh))
            # A failure that arrives when every waiter has gone is retrieved, or asyncio logs it.
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._refreshing)

    def _refresh(self) -> None:
        """Read the keys unless another thread has just done so; the copy serves for a while when
        Redis is away."""
        with self._lock:
            began_s = time.monotonic()
            is_stale = began_s - self._read_at_s > _STALE_AFTER_S
            # A thread that waited for another one's try takes its result.
            if began_s - self._tried_at_s > _RETRY_AFTER_S:
                try:
                    self._read()
                    self._failure = None
                except PipelineError as error:
                    self._failure = error
                self._tried_at_s = time.monotonic()
            if is_stale and self._failure is not None:
                raise ServerUnavailable(str(self._failure)) from self._failure

    def _read(self) -> None:
        began_s = time.monotonic()
        with report_errors(redis=self._client):
            found = cast("dict[bytes, bytes]", self._client.hgetall(self._redis_key))
        self._replace_copy({key_id.decode(): _decode(text) for key_id, text in found.items()})
        self._read_at_s = began_s

    def _replace_copy(self, by_id: dict[str, AccessKey]) -> None:
        writers = [key for key in by_id.values() if key.kind == "write" and key.revoked_at is None]
        self._copy = by_id, {}
        self._origins = frozenset(origin for key in writers for origin in key.origins)

    def _store(self, key: AccessKey) -> None:
        with report_errors(redis=self._client):
            self._client.hset(self._redis_key, key.id, msgspec.json.encode(key).decode())
        self._replace_copy({**self._by_id(), key.id: key})
