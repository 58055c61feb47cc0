"""The command behind `make viewers`: what many viewers at once cost the web process.

Each viewer has the Live page's stream open, and reads a card of the Overview again, all of them
within `--seconds`, while events are counted. What is measured is the processor's time of the web
process, beginning when all streams have begun.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from pipeline.access.key_store import AccessKeyStore
from pipeline.event.model import Event
from tests.dashboard.stage import DashboardStage, dashboard_stage
from tests.helpers.support import count_events

CARDS = ("tiles", "main", "types", "values", "users")
WEEKS = "from=2025-03-24&to=2025-04-20"
"""Of which there are many events: see events.py."""
_EACH_BATCH = 10
_BEGIN_WITHIN_S = 60.0


@dataclass
class Seen:
    """What the viewers got."""

    streams: int = 0
    parts: int = 0
    refreshes_s: list[float] = field(default_factory=list)
    refused: int = 0


def main() -> int:
    """Measure, and print the figures; returns 1 when they are a core or more, or a viewer was
    refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboard.viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--events-per-s", type=int, default=100)
    options = parser.parse_args()
    with dashboard_stage() as stage:
        cores, seen = asyncio.run(_measure(stage, options))
    refreshes_ms = [1000 * one for one in seen.refreshes_s]
    sys.stdout.write(
        f"{seen.streams} streams of Live got {seen.parts} parts in {options.seconds:g} s; "
        f"{len(refreshes_ms)} cards of the Overview read again, "
        f"median {statistics.median(refreshes_ms):.0f} ms, longest {max(refreshes_ms):.0f} ms; "
        f"{seen.refused} refused; at most {options.events_per_s} events/s.\n"
        f"The web process took {cores:.2f} cores.\n"
    )
    return int(cores >= 1 or seen.refused > 0 or seen.streams < options.viewers)


async def _measure(stage: DashboardStage, options: argparse.Namespace) -> tuple[float, Seen]:
    access = AccessKeyStore(stage.services.redis, stage.services.keys)
    tokens = [access.create("read", f"viewer {n}")[1] for n in range(options.viewers)]
    seen = Seen()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=stage.web.origin, limits=limits, timeout=30) as client:
        sessions = [await _sign_in(client, token) for token in tokens]
        client.cookies.clear()
        watching = [asyncio.create_task(_watch(client, one, seen)) for one in sessions]
        try:
            async with asyncio.timeout(_BEGIN_WITHIN_S):
                while seen.streams + seen.refused < len(sessions):
                    await asyncio.sleep(0.1)
            seen.parts = 0
            began_s, cpu_s = time.monotonic(), read_cpu_s(stage.web.pid)
            await asyncio.gather(
                _count(stage, options),
                *[_refresh(client, one, options.seconds, seen) for one in sessions],
            )
            await asyncio.sleep(max(0.0, began_s + options.seconds - time.monotonic()))
            cores = (read_cpu_s(stage.web.pid) - cpu_s) / (time.monotonic() - began_s)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
    return cores, seen


async def _sign_in(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    """The headers of a session of its own."""
    client.cookies.clear()
    origin = f"{client.base_url}".rstrip("/")
    answer = await client.post(
        "/dashboard/sign-in", data={"token": token}, headers={"Origin": origin}
    )
    assert answer.status_code == 303, answer.text
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def _watch(client: httpx.AsyncClient, session: dict[str, str], seen: Seen) -> None:
    async with client.stream("GET", "/dashboard/live/stream", headers=session) as answer:
        if answer.status_code != 200:
            seen.refused += 1
            return
        is_first = True
        async for chunk in answer.aiter_raw():
            seen.parts += chunk.count(b"event: part")
            if is_first and b"event: part" in chunk:
                seen.streams += 1
                is_first = False


async def _refresh(
    client: httpx.AsyncClient, session: dict[str, str], within_s: float, seen: Seen
) -> None:
    await asyncio.sleep(within_s * 0.95 * random.random())
    card = random.choice(CARDS)
    began_s = time.monotonic()
    answer = await client.get(f"/dashboard?card={card}&{WEEKS}", headers=session)
    seen.refreshes_s.append(time.monotonic() - began_s)
    seen.refused += answer.status_code != 200


async def _count(stage: DashboardStage, options: argparse.Namespace) -> None:
    until_s = time.monotonic() + options.seconds
    while time.monotonic() < until_s:
        events = _make_events(range(_EACH_BATCH))
        await asyncio.to_thread(count_events, stage.services, *events)
        await asyncio.sleep(_EACH_BATCH / options.events_per_s)


def _make_events(numbers: Sequence[int]) -> list[Event]:
    now = datetime.now(UTC)
    return [Event.create("page_view", f"u{n}", {"path": "/"}, now=now) for n in numbers]


def read_cpu_s(pid: int) -> float:
    """The processor's time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
