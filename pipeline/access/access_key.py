"""An access key, and the text that its owner presents: `wk_{id}_{secret}` or `rt_{id}_{secret}`.

A write key may send events and nothing else, so a web page may contain it. A read token may read
every count, and erase users where it was made for that.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from pipeline.errors import InvalidConfiguration

KeyKind = Literal["write", "read"]
_PREFIXES: dict[KeyKind, str] = {"write": "wk", "read": "rt"}


class AccessKey(msgspec.Struct, frozen=True):
    """A write key or a read token, without its secret."""

    id: str
    kind: KeyKind
    name: str
    hash: str
    """SHA-256 of the secret, which has 256 random bits."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use the key, `*` for any; servers need none."""
    may_forget: bool = False
    """Whether this read token may erase users."""
    created_at: datetime | None = None
    revoked_at: datetime | None = None

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may use the key."""
        return origin in self.origins or "*" in self.origins

    def is_valid_for(self, kind: KeyKind, presented: PresentedKey) -> bool:
        """Whether what was presented is this key, of this kind, and not revoked."""
        if self.kind != kind or not presented.is_of(kind) or self.revoked_at is not None:
            return False
        return hmac.compare_digest(_hash(presented.secret), self.hash)


class PresentedKey(NamedTuple):
    """What a client presents, taken apart; parts that it lacks are empty."""

    prefix: str
    id: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> PresentedKey:
        """Take any text apart."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        return cls(prefix, key_id, secret)

    def is_of(self, kind: KeyKind) -> bool:
        """Whether the prefix is that of this kind."""
        return self.prefix == _PREFIXES[kind]


def create_key(
    kind: KeyKind, name: str, origins: Sequence[str], *, may_forget: bool
) -> tuple[AccessKey, str]:
    """A new key, and the text that its owner presents.

    Raises `InvalidConfiguration` for an origin that is not one.
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
    return key, f"{_PREFIXES[kind]}_{key.id}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _check_origin(origin: str) -> None:
    scheme, _, host = origin.partition("://")
    is_origin = scheme in ("http", "https") and host and not set(host) & set("/?#@ *")
    if origin != "*" and not (is_origin and origin == origin.lower()):
        raise InvalidConfiguration(
            f"{origin!r} is not the origin of a page: give scheme and host in lower case, such as "
            "https://shop.example, with the port where it is not the usual one; or * for any page"
        )
