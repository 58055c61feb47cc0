"""Who may write and who may read: keys, kept in Redis, of whose secret only the hash is stored.

A write key `wk_{id}_{secret}` may send events and nothing else, so it can stand in a web page. A
read token `rt_{id}_{secret}` may read everything, and forget users where it was made for that.
Every process holds the keys in memory and reads them again after two seconds, so that a key which
was revoked is refused within five.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, cast

import msgspec
import redis

from pipeline.errors import InvalidConfiguration, NoSuchAccessKey, PipelineError, ServerUnavailable
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors

Kind = Literal["write", "read"]
_PREFIXES: dict[Kind, str] = {"write": "wk", "read": "rt"}
_READ_AGAIN_S = 2.0
_TOO_OLD_S = 4.0
"""While Redis is away the keys are believed for so long."""
_LOOK_AGAIN_S = 0.1
"""Between two looks for a key that is not known, or at a Redis that does not answer."""


class AccessKey(msgspec.Struct, frozen=True):
    """A write key or a read token, without its secret."""

    id: str
    kind: Kind
    name: str
    hash: str
    """SHA-256 of the secret, which has 256 random bits."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use the key, `*` for any; servers need none."""
    may_forget: bool = False
    created_at: datetime | None = None
    revoked_at: datetime | None = None

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may use the key."""
        return origin in self.origins or "*" in self.origins


class Access:
    """The keys of one Redis."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._name = keys.access
        # By id; and by what was presented, those found valid since they were read.
        self._held: tuple[dict[str, AccessKey], dict[str, AccessKey]] = ({}, {})
        self._origins: frozenset[str] = frozenset()
        self._read_at_s = self._tried_at_s = -_TOO_OLD_S
        self._failed: PipelineError | None = None  # what came of the last try
        self._lock = threading.Lock()
        self._reading: asyncio.Task[None] | None = None

    def create(
        self, kind: Kind, name: str, origins: Sequence[str] = (), *, may_forget: bool = False
    ) -> tuple[AccessKey, str]:
        """Make a key; returns it and what its owner presents, which is stored nowhere.

        Raises `InvalidConfiguration` for an origin that is none, `ServerUnavailable`.
        """
        for origin in origins:
            _check_origin(origin)
        secret = secrets.token_urlsafe(32)
        key = AccessKey(
            id=secrets.token_hex(6),
            kind=kind,
            name=name,
            hash=_hash(secret),
            origins=tuple(origins),
            may_forget=may_forget,
            created_at=datetime.now(UTC),
        )
        self._store(key)
        return key, f"{_PREFIXES[kind]}_{key.id}_{secret}"

    def list(self) -> list[AccessKey]:
        """All keys, revoked ones included, the oldest first. Raises `ServerUnavailable`."""
        self._read()
        return sorted(self._known().values(), key=lambda key: (str(key.created_at), key.id))

    def revoke(self, key_id: str) -> AccessKey:
        """Have a key refused from now on, and within five seconds by every process. May be
        repeated. Raises `NoSuchAccessKey`, `ServerUnavailable`."""
        self._read()
        # What was shown, with or without the secret, names the key too.
        key = self._known().get(key_id) or self._known().get(_taken_apart(key_id)[1])
        if key is None:
            raise NoSuchAccessKey(
                f"there is no key {key_id!r}: `analytics keys list` shows their ids"
            )
        if key.revoked_at is None:
            key = msgspec.structs.replace(key, revoked_at=datetime.now(UTC))
            self._store(key)
        return key

    def check(self, kind: Kind, presented: str) -> AccessKey | None:
        """The valid key of this kind that was presented, or None. May look into Redis.

        Raises `ServerUnavailable` when the keys could not be read for some seconds.
        """
        if self._is_due():
            self._read_again()
        found = self._find(kind, presented)
        if found is None and self._may_be_new(kind, presented):
            self._read_again()
            found = self._find(kind, presented)
        return found

    async def check_async(self, kind: Kind, presented: str) -> AccessKey | None:
        """The same, without holding up the event loop."""
        if self._is_due():
            await self._read_again_async()
        found = self._find(kind, presented)
        if found is None and self._may_be_new(kind, presented):
            await self._read_again_async()
            found = self._find(kind, presented)
        return found

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may use any of the write keys, as last read."""
        return origin in self._origins or "*" in self._origins

    def _known(self) -> dict[str, AccessKey]:
        return self._held[0]

    def _find(self, kind: Kind, presented: str) -> AccessKey | None:
        known, valid = self._held
        key = valid.get(presented)
        if key is not None:
            return key if key.kind == kind else None
        prefix, key_id, secret = _taken_apart(presented)
        key = known.get(key_id)
        if key is None or prefix != _PREFIXES[kind] or key.kind != kind:
            return None
        if not hmac.compare_digest(_hash(secret), key.hash) or key.revoked_at is not None:
            return None
        valid[presented] = key
        return key

    def _is_due(self) -> bool:
        return time.monotonic() - self._read_at_s > _READ_AGAIN_S

    def _may_be_new(self, kind: Kind, presented: str) -> bool:
        prefix, key_id, _ = _taken_apart(presented)
        is_unknown = prefix == _PREFIXES[kind] and key_id not in self._known()
        return is_unknown and time.monotonic() - self._tried_at_s > _LOOK_AGAIN_S

    async def _read_again_async(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._read_again))
            # Looked at, should nobody be waiting any more when it fails.
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._reading)

    def _read_again(self) -> None:
        """Read the keys, unless somebody has just done so; go on with old ones for a while."""
        with self._lock:
            began_s = time.monotonic()
            is_old = began_s - self._read_at_s > _TOO_OLD_S
            # Whoever has waited meanwhile for somebody's try is told what came of it.
            if began_s - self._tried_at_s > _LOOK_AGAIN_S:
                try:
                    self._read()
                    self._failed = None
                except PipelineError as error:
                    self._failed = error
                self._tried_at_s = time.monotonic()
            if is_old and self._failed is not None:
                raise ServerUnavailable(str(self._failed)) from self._failed

    def _read(self) -> None:
        began_s = time.monotonic()
        with report_errors(redis=self._client):
            found = cast("dict[bytes, bytes]", self._client.hgetall(self._name))
        self._know({name.decode(): _decode(text) for name, text in found.items()})
        self._read_at_s = began_s

    def _know(self, known: dict[str, AccessKey]) -> None:
        valid = [key for key in known.values() if key.kind == "write" and key.revoked_at is None]
        self._held = known, {}
        self._origins = frozenset(origin for key in valid for origin in key.origins)

    def _store(self, key: AccessKey) -> None:
        with report_errors(redis=self._client):
            self._client.hset(self._name, key.id, msgspec.json.encode(key).decode())
        self._know({**self._known(), key.id: key})


_decode = msgspec.json.Decoder(AccessKey).decode


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _taken_apart(presented: str) -> tuple[str, str, str]:
    prefix, _, rest = presented.partition("_")
    key_id, _, secret = rest.partition("_")
    return prefix, key_id, secret


def _check_origin(origin: str) -> None:
    scheme, _, host = origin.partition("://")
    is_origin = scheme in ("http", "https") and host and not set(host) & set("/?#@ *")
    if origin != "*" and not (is_origin and origin == origin.lower()):
        raise InvalidConfiguration(
            f"{origin!r} is not the origin of a page: give scheme and host in lower case, such as "
            "https://shop.example, with the port where it is not the usual one; or * for any page"
        )
