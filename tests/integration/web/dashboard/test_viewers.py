"""Who is asked for in Redis, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request

from pipeline.access.key_store import AccessKeyStore
from pipeline.access.sessions import Session, SessionStore
from pipeline.services import Services
from pipeline.web.dashboard.session.viewers import Viewers
from pipeline.web.errors import RequestRefused

HONEST, HOSTILE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def access(services: Services) -> AccessKeyStore:
    return AccessKeyStore(services.redis, services.keys)


@pytest.fixture
def sessions(services: Services) -> SessionStore:
    return SessionStore(services.redis, services.keys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that Redis was asked for."""
    found: list[str] = []
    find: Callable[[SessionStore, str], Session | None] = SessionStore.find

    def count(self: SessionStore, text: str) -> Session | None:
        found.append(text)
        return find(self, text)

    monkeypatch.setattr(SessionStore, "find", count)
    return found


def make_request(text: str, address: str) -> Request:
    headers = [(b"host", b"127.0.0.1"), (b"cookie", f"analytics-session={text}".encode())]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": "/dashboard",
            "query_string": b"",
            "headers": headers,
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
        }
    )


def test_many_pages_of_one_session_ask_once(
    access: AccessKeyStore, sessions: SessionStore, asked: list[str]
) -> None:
    key, _ = access.create("read", "viewer")
    text = sessions.start(key)

    async def open_many() -> None:
        viewers = Viewers(sessions, access)
        for times in (1, 2):
            requests = [viewers.find(make_request(text, HONEST)) for _ in range(500)]
            found = await asyncio.gather(*requests)
            assert {one and one.id for one in found} == {key.id}
            assert asked == [text] * times
            # As it is two seconds later.
            viewers._known[text] = viewers._known[text]._replace(at_s=0.0)
        viewers.close()

    asyncio.run(open_many())


def test_made_up_cookies_keep_no_viewer_out(
    access: AccessKeyStore, sessions: SessionStore, asked: list[str]
) -> None:
    key, _ = access.create("read", "viewer")
    text = sessions.start(key)

    async def attack() -> None:
        viewers = Viewers(sessions, access)
        made_up = [viewers.find(make_request(f"made-up-{n}", HOSTILE)) for n in range(900)]
        storm = asyncio.gather(*made_up, return_exceptions=True)
        await asyncio.sleep(0)
        found = await viewers.find(make_request(text, HONEST))
        assert found is not None
        assert found.id == key.id
        assert len(asked) < 50  # it did not wait for all the others
        refused = [one for one in await storm if one is not None]
        assert all(isinstance(one, RequestRefused) for one in refused)
        viewers.close()

    asyncio.run(attack())
