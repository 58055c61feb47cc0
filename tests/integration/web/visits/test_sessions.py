"""Sessions in Redis: what begins one, what keeps it, and what is left when it is over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import redis

from pipeline.embedded import PrivateServers
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys
from pipeline.web.collector.visits import sessions as module
from pipeline.web.collector.visits.sessions import Session, Sessions, Visit, Visitor

NOW = datetime.now(UTC).replace(hour=12)
TOMORROW = NOW + timedelta(days=1)
ANNE = Visitor("shop", "192.0.2.1", "Firefox")
BERT = Visitor("shop", "192.0.2.2", "Firefox")
KEYS = Keys()

Find = Callable[..., Sequence[Session | None]]


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis_client(redis_url, 1)


def find_in(client: redis.Redis, *visits: Visit, at: datetime = NOW) -> Sequence[Session | None]:
    """As another web process would: nothing is remembered."""

    async def run() -> Sequence[Session | None]:
        with closing(Sessions(client, KEYS)) as sessions:
            return await sessions.find(visits, at)

    return asyncio.run(run())


@pytest.fixture
def find(client: redis.Redis) -> Find:
    return lambda *visits, at=NOW: find_in(client, *visits, at=at)


def view(visitor: Visitor, event_id: str = "v1") -> Visit:
    return Visit(visitor, True, event_id)


def names(client: redis.Redis) -> list[str]:
    return sorted(name.decode() for name in client.scan_iter(f"{KEYS.prefix}seen:session:*"))


def test_all_processes_find_the_same_session(find: Find) -> None:
    [first], [second] = find(view(ANNE)), find(view(ANNE, "v2"))
    assert first == second
    assert first is not None
    assert first.entry == "v1"


def test_processes_that_ask_at_once_agree_on_salt_and_session(client: redis.Redis) -> None:
    async def run() -> set[Session | None]:
        several = [Sessions(client, KEYS) for _ in range(6)]
        found = await asyncio.gather(
            *(one.find([view(ANNE, f"v{number}")], NOW) for number, one in enumerate(several))
        )
        for one in several:
            one.close()
        return {session for [session] in found}

    assert len(asyncio.run(run())) == 1


def test_another_address_browser_or_site_is_another_visitor(find: Find) -> None:
    others = [ANNE._replace(**{name: "other"}) for name in Visitor._fields]
    found = find(*map(view, [ANNE, BERT, *others]))
    assert len({session.id for session in found if session is not None}) == 5


def test_a_session_lives_for_half_an_hour_after_its_last_event(
    find: Find, client: redis.Redis
) -> None:
    [first] = find(view(ANNE))
    [name] = names(client)
    client.pexpire(name, 5_000)

    assert find(Visit(ANNE)) == [first]  # any event keeps it

    assert 1_795_000 < client.pttl(name) <= 1_800_000
    client.delete(name)  # as when the time is over
    [second] = find(view(ANNE), at=NOW + timedelta(minutes=31))
    assert second is not None
    assert first is not None
    assert second.id != first.id


def test_what_comes_when_a_page_is_left_begins_no_session(find: Find, client: redis.Redis) -> None:
    assert find(Visit(ANNE, begins=False)) == [None]
    assert not names(client)
    [session] = find(view(ANNE))
    assert find(Visit(ANNE, begins=False)) == [session]


def test_the_first_page_view_is_the_entry_also_when_it_is_sent_again(find: Find) -> None:
    assert find(Visit(ANNE, begins=True))[0].entry == ""  # type: ignore[union-attr]
    for event_id in ("v1", "v2", "v1"):
        assert find(view(ANNE, event_id))[0].entry == "v1"  # type: ignore[union-attr]


def test_a_new_day_ends_every_session(find: Find, client: redis.Redis) -> None:
    midnight = TOMORROW.replace(hour=0, minute=0, second=0, microsecond=0)
    [late] = find(view(ANNE), at=midnight - timedelta(seconds=1))
    [early] = find(view(ANNE), at=midnight)
    assert late is not None
    assert early is not None
    assert late.id != early.id
    salts = sorted(client.scan_iter(f"{KEYS.salt}:*"))
    assert len({client.get(name) for name in salts}) == 2
    assert 200 < client.ttl(salts[0]) <= 301
    assert 86_500 < client.ttl(salts[1]) <= 86_700


def test_web_servers_whose_clock_is_behind_that_of_redis_agree(find: Find) -> None:
    at = NOW - timedelta(days=400)
    assert find(view(ANNE), at=at) == find(view(ANNE), at=at + timedelta(minutes=5))


def test_one_process_goes_from_one_day_to_the_next(client: redis.Redis) -> None:
    async def run() -> list[str]:
        with closing(Sessions(client, KEYS)) as sessions:
            found = [await sessions.find([view(ANNE)], at) for at in (NOW, TOMORROW, NOW)]
            return [session.id for [session] in found if session is not None]

    first, second, again = asyncio.run(run())
    assert first == again != second


def test_a_salt_that_redis_lost_is_made_anew_for_all(
    find: Find, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.collector.visits.salts._READ_AGAIN_S", 0)

    async def run() -> Sequence[Session | None]:
        with closing(Sessions(client, KEYS)) as sessions:
            await sessions.find([view(ANNE)], NOW)
            client.flushdb()
            return await sessions.find([view(ANNE)], NOW)

    assert asyncio.run(run()) == find(view(ANNE))


def test_invented_visitors_of_a_site_are_bounded_and_those_known_go_on(
    find: Find, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 5)
    [anne] = find(view(ANNE))

    found = find(*(view(ANNE._replace(user_agent=f"{number}")) for number in range(100)))

    assert [session is not None for session in found] == [True] * 4 + [False] * 96
    assert find(view(ANNE)) == [anne]
    assert find(view(ANNE._replace(site="other")))[0] is not None
    assert len(names(client)) == 6


def test_redis_holds_no_address_and_no_user_agent_and_all_of_it_expires(
    find: Find, client: redis.Redis
) -> None:
    anne = Visitor("shop", "198.51.100.77", "Mozilla/5.0 (Secret)")
    [session] = find(view(anne))
    assert session is not None
    for name in client.scan_iter("*"):
        held = name + client.get(name)  # type: ignore[operator]
        for text in (anne.address, anne.user_agent, session.id):
            assert text.encode() not in held
        assert client.ttl(name) > 0


def test_requests_of_one_moment_share_a_call(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = Sessions._find

    def count(self: Sessions, together: Sequence[object]) -> object:
        asked.append(len(together))
        return ask(self, together)  # type: ignore[arg-type]

    monkeypatch.setattr(Sessions, "_find", count)

    async def run() -> int:
        with closing(Sessions(client, KEYS)) as sessions:
            visitors = [ANNE._replace(user_agent=f"{number}") for number in range(50)]
            found = await asyncio.gather(*(sessions.find([view(one)], NOW) for one in visitors))
            return len({session for [session] in found})

    assert asyncio.run(run()) == 50
    assert asked == [50]


def test_a_request_with_very_many_visitors_is_answered(find: Find) -> None:
    found = find(*(view(ANNE._replace(user_agent=f"{number}")) for number in range(1_000)))
    assert len({session for session in found if session is not None}) == 1_000


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_without_redis_there_are_no_sessions_and_no_long_wait(
    own_servers: PrivateServers,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.5)
    client = redis_client(str(own_servers.redis_url), 1)
    pid = own_servers.redis.pid
    assert pid is not None

    async def run() -> None:
        with closing(Sessions(client, KEYS)) as sessions:
            assert (await sessions.find([view(ANNE)], NOW))[0] is not None
            os.kill(pid, how)
            try:
                began_s = time.monotonic()
                asking = [sessions.find([view(ANNE)], NOW) for _ in range(50)]
                assert await asyncio.gather(*asking) == [[None]] * 50
                for _ in range(50):
                    assert await sessions.find([view(ANNE)], NOW) == [None]
                assert time.monotonic() - began_s < 4
            finally:
                if how == signal.SIGSTOP:
                    os.kill(pid, signal.SIGCONT)
                else:
                    own_servers.redis.kill()  # which notes that it has ended
                    own_servers.redis.start()
            until_s = time.monotonic() + 10
            while await sessions.find([view(ANNE)], NOW) == [None]:
                assert time.monotonic() < until_s
                await asyncio.sleep(0.05)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    client.close()
    assert len([one for one in caplog.records if "without a session" in one.message]) == 1
    assert ANNE.address not in caplog.text
