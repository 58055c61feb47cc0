"""What the collector reads from a request's head: from which page, address and client it came, and
with which access key."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qs

from starlette.types import Scope

from pipeline.access.access_key import AccessKey
from pipeline.web.addresses import mask_address
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.event_scope import find_event_scope
from pipeline.web.collector.visits.context import Sender
from pipeline.web.collector.visits.page_urls import find_host
from pipeline.web.collector.visits.visits import Visits

_READ = frozenset(
    {
        b"access-control-request-headers",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"dnt",
        b"host",
        b"origin",
        b"referer",
        b"sec-fetch-mode",
        b"sec-gpc",
        b"transfer-encoding",
        b"user-agent",
    }
)
LONGEST_KEY = 200
"""Characters of an access key, at most; ours have 60."""
PATH_KEY = "analytics.key"
"""Where an ASGI scope has the access key that stood in the path."""
_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_AUTHORIZATION = 400
_LONGEST_ADDRESS = 100
"""A proxy that is believed may pass on any text."""
_MOST_PARAMETERS = 100


@dataclass(slots=True)
class RequestHead:
    """The head of a request."""

    method: str
    query: bytes
    headers: dict[bytes, bytes]
    address: str
    encoding: bytes
    """The Content-Encoding of the body, "" for none."""
    path_key: str = ""
    """The access key in the path, "" for none."""
    is_body_read: bool = False

    @classmethod
    def parse(cls, scope: Scope) -> RequestHead:
        """The head of an ASGI scope; of a header that comes twice the last one counts."""
        client = scope.get("client")
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        return cls(
            method=scope["method"],
            query=scope["query_string"],
            headers=headers,
            address=mask_address(client[0][:_LONGEST_ADDRESS]) if client else "",
            encoding=headers.get(b"content-encoding", b""),
            path_key=scope.get(PATH_KEY, ""),
        )

    @property
    def origin(self) -> str:
        """The origin of the page that sent it, "" for none."""
        return self.headers.get(b"origin", b"").decode("latin-1")

    @property
    def declared_bytes(self) -> int:
        """The Content-Length; 0 where there is none."""
        try:
            return int(self.headers.get(b"content-length", b"0"))
        except ValueError:
            return 0

    @property
    def has_body(self) -> bool:
        """Whether a body follows, which may be empty."""
        return self.declared_bytes > 0 or b"transfer-encoding" in self.headers

    def create_encoder(
        self, user_id_secret: str, key: AccessKey, visits: Visits | None = None
    ) -> EventEncoder:
        """An encoder for the events of this request, received now with this key. `visits` adds to
        them."""
        headers = self.headers
        encoder = EventEncoder(
            user_id_secret,
            headers.get(b"user-agent", b"").decode("latin-1"),
            b"origin" in headers or b"sec-fetch-mode" in headers,
            headers.get(b"referer", b"").decode("latin-1"),
            datetime.now(UTC),
            key.id_source,
            find_event_scope(key),
        )
        if visits is not None:
            encoder.visits = visits.begin(self._describe_sender(encoder, key))
        return encoder

    def _describe_sender(self, encoder: EventEncoder, key: AccessKey) -> Sender:
        headers, page = self.headers, self.origin or encoder.referrer
        return Sender(
            site=key.source or key.id,
            address=self.address,
            user_agent=encoder.user_agent,
            is_browser=encoder.is_browser,
            host=find_host(page) if encoder.is_browser else "",
            is_server=not key.origins,
            is_private=b"1" in (headers.get(b"dnt"), headers.get(b"sec-gpc")),
            received_at=encoder.received_at,
        )

    def note_body(self, body: bytes) -> None:
        """The body has been read. One that begins like a gzip file is one: no JSON does, and some
        clients say so nowhere, or in a parameter of their own."""
        self.is_body_read = True
        if not self.encoding and body[:2] == _GZIP_MAGIC:
            self.encoding = b"gzip"

    def find_key(self) -> str:
        """The access key beside the body: that in the path, the user name of HTTP Basic, a bearer
        token, or the parameter `key` or `writeKey`; "" when there is none."""
        if self.path_key:
            return self.path_key
        given = self.headers.get(b"authorization")
        if given is not None:
            return _parse_authorization(given) if len(given) <= _LONGEST_AUTHORIZATION else "no key"
        if self.query and b"key=" in self.query.lower():
            return _parse_query_key(self.query)
        return ""


@lru_cache(maxsize=1_024)
def _parse_authorization(given: bytes) -> str:
    scheme, _, rest = given.strip().partition(b" ")
    rest = rest.strip()
    match scheme.lower():
        case b"bearer":
            return rest.decode("latin-1")
        case b"basic" if len(rest) <= LONGEST_KEY:
            try:
                return b64decode(rest, validate=True).partition(b":")[0].decode("latin-1")
            except binascii.Error:
                pass
    return "no key"


def _parse_query_key(query: bytes) -> str:
    # As many as the pixel reads; more than that would cost the server much.
    some = b"&".join(query.split(b"&", _MOST_PARAMETERS)[:_MOST_PARAMETERS])
    found = parse_qs(some.decode("latin-1"))
    given = found.get("key") or found.get("writeKey") or [""]
    return given[-1][: LONGEST_KEY + 1]
