"""Sessions of people who signed in with a read token, and links that sign in once.

A browser keeps a random text, and Redis the digest of it beside the token's id, for two weeks at
most. So what a browser holds is not the token and does not lead back to it, and what Redis holds
signs no one in. A session ends with its token: whether that is valid is asked at every request.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple, cast

import redis

from pipeline.access.access_key import AccessKey
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script
from pipeline.server_errors import report_errors

_KEEP = Script("pipeline.access.keep_session")
SESSION_S = 14 * 86_400
SIGN_IN_S = 600
_LONGEST = 200
"""Characters of a text that may be one of ours; they have 43."""


class Session(NamedTuple):
    """Who signed in: the id of the read token, and the digest under which Redis has the session."""

    token_id: str
    digest: str


class SessionStore:
    """The sessions of one Redis. Every method raises `ServerUnavailable`; threads may share it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def start(self, key: AccessKey) -> str:
        """Begin a session with this token; returns the text that the browser keeps."""
        return self._store(self._keys.viewer, key.id, SESSION_S)

    def find(self, text: str) -> Session | None:
        """The session of a browser's text; None where it has ended, or never began."""
        if not text or len(text) > _LONGEST:
            return None
        digest = _digest(text)
        with report_errors(redis=self._client):
            found = cast("bytes | None", self._client.get(self._keys.viewer + digest))
        return Session(found.decode(), digest) if found else None

    def end(self, text: str) -> None:
        """End the session of a browser's text, if there is one. Idempotent."""
        with report_errors(redis=self._client):
            self._client.delete(self._keys.viewer + _digest(text))

    def make_sign_in(self, token_id: str) -> str:
        """A text that begins a session with this token, once and within ten minutes."""
        return self._store(self._keys.sign_in, token_id, SIGN_IN_S)

    def take_sign_in(self, text: str) -> str | None:
        """The id of the token for which the text was made; None where it was taken before or is too
        old."""
        with report_errors(redis=self._client):
            found = self._client.getdel(self._keys.sign_in + _digest(text))
        return cast("bytes", found).decode() if found else None

    def _store(self, prefix: str, token_id: str, lifetime_s: int) -> str:
        text = secrets.token_urlsafe(32)
        with report_errors(redis=self._client):
            _KEEP.run(self._client, [prefix + _digest(text)], [token_id, lifetime_s])
        return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
