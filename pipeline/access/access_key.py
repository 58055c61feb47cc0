"""An access key, and the text that its owner presents: `wk_{id}_{secret}` or `rt_{id}_{secret}`.

A write key may send events and nothing else, so a web page may contain it. A read token may read
every count, and do more where it was made for that: see `TokenRights`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import msgspec

from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.event.rules import check_event_type

KeyKind = Literal["write", "read"]
_PREFIXES: dict[KeyKind, str] = {"write": "wk", "read": "rt"}
_SOURCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


PAGE_KEY_MAX_AGE_S = 7 * 86_400
"""What the command line gives a page's key: browsers send what they queued offline days later."""


class TokenRights(TypedDict, total=False):
    """What a read token may do beside reading; nothing, where a right is left out."""

    may_forget: bool
    """Erase users."""
    may_operate: bool
    """Flush, archive and audit, replay and drop dead letters."""
    may_edit: bool
    """Change what viewers share: annotations and saved views."""


class KeyScope(NamedTuple):
    """What a write key may do, apart from its origins; by default anything."""

    source: str = ""
    """Source of the event ids, where it is not the default of `AccessKey.id_source`."""
    event_types: tuple[str, ...] = ()
    """The only event types that the key may send, as the client names them; empty: any."""
    max_age_s: int | None = None
    """Greatest age of an event, in seconds; None: any."""
    events_per_s: int | None = None
    """Rate limit; None: that of the settings for such a key, 0: no limit."""

    def check(self) -> None:
        """Raises `InvalidConfiguration`, which names the part that is wrong."""
        if self.source and not _SOURCE.fullmatch(self.source):
            raise InvalidConfiguration(
                f"{self.source!r} is not the name of a source: give 1 to 64 letters, digits, dots, "
                "hyphens or underscores, such as shop"
            )
        for event_type in self.event_types:
            try:
                cleaned = check_event_type(event_type)
            except InvalidEvent as error:
                raise InvalidConfiguration(f"the key's {error}") from error
            if cleaned != event_type:
                raise InvalidConfiguration(
                    f"the key's event type {event_type!r} must not contain control characters, nor "
                    f"spaces at its ends: no event has such a type; give {cleaned!r}"
                )
        if self.max_age_s is not None and self.max_age_s < 1:
            raise InvalidConfiguration(
                f"a greatest age of {self.max_age_s} s admits no event: give at least 1 s"
            )
        if self.events_per_s is not None and self.events_per_s < 0:
            raise InvalidConfiguration(
                f"{self.events_per_s} events a second is below 0: give a rate, or 0 for no limit"
            )


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
    source: str = ""
    """Source that was named for the event ids; see `id_source`."""
    event_types: tuple[str, ...] = ()
    """The only event types that the key may send; empty: any."""
    max_age_s: int | None = None
    """Greatest age of an event, in seconds; None: any."""
    events_per_s: int | None = None
    """Rate limit; None: that of the settings for such a key, 0: no limit."""
    may_operate: bool = False
    """Whether this read token may flush, archive and audit, replay and drop dead letters."""
    may_edit: bool = False
    """Whether this read token may change annotations and saved views."""

    @property
    def id_source(self) -> str:
        """Within what the event ids of this key are unique, together with the event type.

        A page's key stands in public pages, so its ids are its own unless a source was named. Keys
        of servers share the source "" with what sends without a key.
        """
        return self.source or (self.id if self.origins else "")

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
    kind: KeyKind,
    name: str,
    origins: Sequence[str],
    *,
    scope: KeyScope = KeyScope(),  # noqa: B008 — immutable
    **rights: Unpack[TokenRights],
) -> tuple[AccessKey, str]:
    """A new key, and the text that its owner presents.

    Raises `InvalidConfiguration` for an origin that is not one and for a scope that cannot be.
    """
    scope.check()
    for origin in origins:
        _check_origin(origin)
    secret = secrets.token_urlsafe(32)
    key = AccessKey(
        id=secrets.token_hex(6),
        kind=kind,
        name=name,
        hash=_hash(secret),
        origins=tuple(origins),
        created_at=datetime.now(UTC),
        **scope._asdict(),
        **rights,
    )
    return key, f"{_PREFIXES[kind]}_{key.id}_{secret}"


def change_key(key: AccessKey, changes: Mapping[str, Any]) -> AccessKey:
    """The key with these fields changed: `origins` and those of `KeyScope`.

    Raises `InvalidConfiguration` for a value that cannot be, for a read token, and for origins of a
    key that has none.
    """
    if key.kind != "write":
        raise InvalidConfiguration(f"{key.id} is a read token; only a write key can be changed")
    if "origins" in changes and not key.origins:
        # A server's key would become public, and its event ids would be of another source.
        raise InvalidConfiguration(
            f"{key.id} is a server's key and has no origins; make a key with --origin for pages"
        )
    changed = msgspec.structs.replace(key, **changes)
    for origin in changed.origins:
        _check_origin(origin)
    KeyScope(changed.source, changed.event_types, changed.max_age_s, changed.events_per_s).check()
    return changed


def describe_age(seconds: int) -> str:
    """An age in its largest whole unit, such as `7 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


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
