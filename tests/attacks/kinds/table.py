"""Every attack with its name, what it does, and what is to be known when it is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tests.attacks.attacker import Target
from tests.attacks.kinds import bodies, connections, floods

_HOURS = "granularity=hour&from=2025-01-01&to=2026-01-31"
"""Some 9,500 points, half a megabyte as JSON: about the longest answer there is."""

_DAYS = "time_zone=Europe/Berlin&from=2024-01-01&to=2026-02-28"
"""A short answer from 19,000 counters: about the most that one is made from."""


@dataclass(frozen=True)
class Attack:
    """One attack; `run` goes on until it is cancelled, or is done before."""

    title: str
    run: Callable[[Target], Awaitable[None]]
    file_limit: int | None = None
    """`ulimit -n` of the web process."""
    afterwards: tuple[str, ...] = ()
    """Commands of `analytics` whose time and memory are part of the figures."""


ATTACKS: dict[str, Attack] = {
    "none": Attack("nothing: how much two periods differ by themselves", lambda _: _do_nothing()),
    "gzip-slow": Attack(
        "batches of 500 KB in 1.7 KB, without a key, 84 a second",
        partial(bodies.packed_without_key, per_s=84, sources=1),
    ),
    "gzip-fast": Attack(
        "batches of 500 KB in 1.7 KB, without a key, 600 a second (1 MB/s) from 4 addresses",
        partial(bodies.packed_without_key, per_s=600, sources=4),
    ),
    "gzip-body-key": Attack(
        "batches of 500 KB in 1.7 KB, an unknown key in the body, 84 a second from 4 addresses",
        partial(bodies.packed_with_key_in_body, per_s=84, sources=4),
    ),
    "stalled-170": Attack(
        "170 bodies of 500 KB that stall, without a key",
        partial(bodies.stalled, count=170, with_key=False),
    ),
    "stalled-170-key": Attack(
        "170 bodies of 500 KB that stall, by a page's key",
        partial(bodies.stalled, count=170, with_key=True),
    ),
    "stalled-1000": Attack(
        "1,000 bodies of 500 KB that stall, by a page's key from 20 addresses",
        partial(bodies.stalled, count=1_000, with_key=True, sources=20),
    ),
    "slow": Attack(
        "1,050 slow requests for /livez, 404 and 401 from one address; `ulimit -n 1024`",
        partial(connections.slow, count=1_050, sources=1),
        file_limit=1_024,
    ),
    "slow-many": Attack(
        "1,050 slow requests for /livez, 404 and 401 from 20 addresses; `ulimit -n 1024`",
        partial(connections.slow, count=1_050, sources=20),
        file_limit=1_024,
    ),
    "unread-script": Attack(
        "100 connections with 2,000 requests each for /analytics.js, whose answers are not read",
        partial(connections.never_read, path="/analytics.js", count=100, requests=2_000),
    ),
    "unread-api": Attack(
        "100 connections with 20 requests each for long series, whose answers are not read",
        partial(
            connections.never_read,
            path=f"/api/stats/series?event_type=page_view&{_HOURS}",
            count=100,
            requests=20,
        ),
    ),
    "unread-csv": Attack(
        "the same for two years of days in another time zone, as CSV",
        partial(
            connections.never_read,
            path=f"/api/stats/series?event_type=page_view&{_DAYS}&format=csv",
            count=100,
            requests=20,
        ),
    ),
    "unread-year": Attack(
        "the same for the days of a year, which is a usual question",
        partial(
            connections.never_read,
            path="/api/stats/series?event_type=page_view&from=2025-03-01&to=2026-02-28",
            count=100,
            requests=20,
        ),
    ),
    "unread-live": Attack(
        "200 live streams that are not read",
        partial(connections.never_read, path="/api/stats/live", count=200),
    ),
    "agents-1000": Attack(
        "1,000 user agents, 100 a second, by a page's key",
        partial(floods.user_agents, per_s=100),
    ),
    "agents-10000": Attack(
        "10,000 user agents, 500 a second, by a page's key",
        partial(floods.user_agents, per_s=500),
    ),
    "types": Attack(
        "10,000 event types by a page's key",
        partial(floods.event_types, count=10_000),
        afterwards=("flush", "archive", "status", "audit"),
    ),
    "days": Attack(
        "3,000 old days in three requests by a page's key",
        partial(floods.old_days, count=3_000),
        afterwards=("flush", "archive"),
    ),
    "unknown-keys": Attack("unknown keys, 500 a second", partial(floods.unknown_keys, per_s=500)),
    "wrong-key": Attack(
        "bodies of 500 KB with a wrong key, 20 a second", partial(floods.wrong_key, per_s=20)
    ),
    "page-key": Attack(
        "20,000 events a second by a page's key, from 100 addresses",
        partial(floods.page_key, per_s=100),
    ),
    "ids": Attack(
        "ids of the shop's next orders, by a page's key", partial(floods.event_ids, per_s=20)
    ),
    "rejected": Attack(
        "batches of 1,000 empty calls, 20 a second, by a page's key",
        partial(bodies.empty_calls, count=1_000, per_s=20),
    ),
    "empty": Attack(
        "batches of 100,000 empty calls, 20 a second, by a page's key",
        partial(bodies.empty_calls, count=100_000, per_s=20),
    ),
    "broken-off": Attack(
        "500 connections a second broken off: half requests, garbage, TLS",
        partial(connections.broken_off, per_s=500),
    ),
}


async def _do_nothing() -> None:
    pass
