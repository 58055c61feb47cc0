"""One campaign: start everything, play the deck, let the work come to an end, and judge."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

import msgspec

from config.settings import Settings
from pipeline import schema
from pipeline.embedded import PrivateServers
from pipeline.services import EVENTS_QUEUE, Services, connect
from tests.chaos import oracle
from tests.chaos.account import DEAD, PROPERTY, UNSTAMPED, Account, Bounds
from tests.chaos.cards import Card, deal
from tests.chaos.oracle import Verdict
from tests.chaos.points import POINTS
from tests.chaos.producer import TYPES, Work
from tests.chaos.proxy import Proxy
from tests.chaos.reader import Seen
from tests.chaos.roles import ForkedSlot, ServerSlot, Slot, Zygotes
from tests.chaos.tally import Tally
from tests.chaos.zygote import Order
from tests.conftest import chosen_programs
from tests.support import ROOT, environment_without_settings

VISIBILITY_TIMEOUT_S = 2
_SLOTS = {"events": 3, "flush": 2, "beat": 1, "producer": 3}
_SETTINGS: dict[str, object] = {
    "count_by": {name: [PROPERTY] for name in (*TYPES, UNSTAMPED)},
    "values_cap": 10_000_000,  # every publish has a value of its own
    "visibility_timeout_s": VISIBILITY_TIMEOUT_S,
    "flush_interval_s": 0.5,
    "flush_batch_size": 200,
    "flush_threshold": 2_000,
    "publish_timeout_s": 1.0,
    "log_level": "WARNING",
}
_BETWEEN_FAULTS_S = 1.5
"""On average, at each proxy."""
_LONGEST_DELAY_S = 1.5 * VISIBILITY_TIMEOUT_S
_HEADROOM = 1.25
"""How much faster producers publish than the events need, because they are dead at times."""
_LIMIT = 3
"""A campaign that takes so many times the seconds it was given has got stuck."""
_DRAIN_LIMIT_S = 60.0
_TRIES_OF_A_POINT = 4
_PROGRESS_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What to do: so many kills and at least so many events in about so many seconds."""

    kills: int
    events: int
    seconds: float
    seed: int
    control: bool = False


@dataclass
class Outcome:
    """What a campaign, or several together, came to."""

    tally: Tally = field(default_factory=Tally)
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    """By role, of the proxies."""
    verdict: Verdict = field(default_factory=Verdict)
    reads: int = 0
    events: int = 0
    unknown: int = 0
    directory: Path | None = None
    """Logs and data, kept when something was wrong."""

    def add(self, other: Outcome) -> None:
        """Take in another campaign."""
        self.tally.add(other.tally)
        for role, faults in other.faults.items():
            self.faults.setdefault(role, Counter()).update(faults)
        self.verdict.add(other.verdict)
        self.reads += other.reads
        self.events += other.events
        self.unknown += other.unknown


async def run(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Run one campaign; `say` is told how it goes."""
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
    directory.chmod(0o711)  # Postgres may run as another user
    servers = await asyncio.to_thread(
        PrivateServers.start, directory / "servers", **chosen_programs()
    )
    try:
        outcome = await Campaign(plan, servers, directory, say).run()
    finally:
        await asyncio.to_thread(servers.stop)
    if outcome.verdict.good:
        shutil.rmtree(directory)
    else:
        outcome.directory = directory
    return outcome


class Campaign:
    """One campaign on running servers."""

    def __init__(
        self, plan: Plan, servers: PrivateServers, directory: Path, say: Callable[[str], None]
    ) -> None:
        assert servers.redis is not None
        assert servers.postgres is not None
        self._plan = plan
        self._redis, self._postgres = servers.redis, servers.postgres
        self._directory = directory
        self._logs = directory / "producers"
        self._logs.mkdir()
        self._say = say
        self._random = Random(plan.seed)
        self._account = Account(self._logs)
        self._services: Services = connect(
            Settings(**_SETTINGS), self._redis.url, self._postgres.url
        )
        self._proxies: dict[tuple[str, str], Proxy] = {}
        self._slots: dict[str, list[Slot]] = {}
        self._names: Counter[str] = Counter()
        self._tally = Tally()
        self._began_s = monotonic()

    async def run(self) -> Outcome:
        """Play and judge."""
        schema.migrate(self._services.engine)
        await self._start_proxies()
        zygotes = [Zygotes("celery"), Zygotes("producer")]
        for zygote in zygotes:
            await zygote.start()
        reader = await self._start_reader()
        self._start_slots(*zygotes)
        weather = asyncio.create_task(self._trouble())
        progress = asyncio.create_task(self._tell())
        try:
            async with asyncio.timeout(_LIMIT * self._plan.seconds + 60):
                await self._play_all()
                await self._enough_events()
            weather.cancel()
            for proxy in self._proxies.values():
                proxy.relent()
            for role in ("producer", "drain", "beat", "events", "flush"):
                if role == "drain":
                    await self._drained()
                else:
                    await asyncio.gather(*(slot.finish() for slot in self._forked(role)))
            reader.send_signal(signal.SIGTERM)
            await reader.wait()
        finally:
            weather.cancel()
            progress.cancel()
            if reader.returncode is None:
                reader.kill()
            for zygote in zygotes:
                await zygote.stop()
            for proxy in self._proxies.values():
                await proxy.stop()
        return self._judged()

    # -- starting --

    async def _start_proxies(self) -> None:
        for role in ("producer", "events", "flush", "beat", "reader"):
            for server in (self._redis, self._postgres):
                proxy = Proxy(server.port, Random(self._random.random()), _LONGEST_DELAY_S)
                await proxy.start()
                self._proxies[role, server.name] = proxy

    def _environment(self, role: str) -> dict[str, str]:
        variables = {
            f"ANALYTICS_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in _SETTINGS.items()
        }
        for server in (self._redis, self._postgres):
            port = self._proxies[role, server.name].port
            url = server.url.replace(f":{server.port}/", f":{port}/")
            variables[f"ANALYTICS_{server.name.upper()}_URL"] = url
        return variables

    async def _start_reader(self) -> asyncio.subprocess.Process:
        with (self._directory / "reader.output").open("wb") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.chaos.reader", self._logs, self._directory / "reader",
                env=environment_without_settings() | self._environment("reader"),
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )  # fmt: skip

    def _start_slots(self, celery: Zygotes, producer: Zygotes) -> None:
        for role, count in _SLOTS.items():
            self._slots[role] = []
            for index in range(count):
                slot = ForkedSlot(
                    role,
                    producer if role == "producer" else celery,
                    self._orders(role, index),
                    self._tally,
                    self._directory,
                )
                slot.start()
                self._slots[role].append(slot)
        for server in (self._redis, self._postgres):
            slots: list[Slot] = [ServerSlot(server, self._tally, self._random)]
            self._slots[server.name] = slots

    def _forked(self, role: str) -> list[ForkedSlot]:
        return [slot for slot in self._slots[role] if isinstance(slot, ForkedSlot)]

    def _orders(self, role: str, index: int) -> Callable[[], Order]:
        """Makes the order for each new process of a slot."""
        environment = self._environment(role)
        random = Random(f"{self._plan.seed}/{role}/{index}")
        predecessor: list[str] = []

        def order() -> Order:
            self._names[role] += 1
            name = f"{role}{self._names[role]}"
            made = Order(name, environment=environment, log=str(self._directory / f"{role}.output"))
            if role == "producer":
                made.work = self._work(name, random, predecessor[-1] if predecessor else None)
                predecessor.append(name)
            else:
                made.arguments = _celery_arguments(role, f"{role}{index}", random)
            return made

        return order

    def _work(self, name: str, random: Random, predecessor: str | None) -> Work:
        return Work(
            name,
            seed=f"{self._plan.seed}/{name}",
            logs=str(self._logs),
            events_per_s=_HEADROOM * self._plan.events / self._plan.seconds / _SLOTS["producer"],
            threads=random.choice([1, 1, 2]),
            # Without stock clients every message must be in the books; so every other time.
            foreign=0.15 if self._plan.seed % 2 else 0.0,
            predecessor=predecessor,
        )

    # -- playing --

    async def _play_all(self) -> None:
        deck = deal(
            self._plan.kills, self._plan.seconds, VISIBILITY_TIMEOUT_S, Random(self._plan.seed)
        )
        async with asyncio.TaskGroup() as group:
            for card in deck:
                group.create_task(self._play(card))

    async def _play(self, card: Card) -> None:
        await asyncio.sleep(max(0.0, self._began_s + card.at_s - monotonic()))
        for _ in range(_TRIES_OF_A_POINT):
            slots = self._slots[card.role]
            free = [slot for slot in slots if not slot.lock.locked()]
            slot = self._random.choice(free or slots)
            async with slot.lock:
                if await slot.play(card):
                    return

    async def _trouble(self) -> None:
        """Faults of the network, at each proxy by chance."""

        async def strike_on(proxy: Proxy) -> None:
            while True:
                await asyncio.sleep(self._random.expovariate(1 / _BETWEEN_FAULTS_S))
                proxy.strike()

        await asyncio.gather(*(strike_on(proxy) for proxy in self._proxies.values()))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._account.read()
            self._say(
                f"{monotonic() - self._began_s:4.0f} s  {self._kills()} of {self._plan.kills} "
                f"kills, {self._accepted()} of {self._plan.events} events"
            )

    def _kills(self) -> int:
        tally = Tally()
        tally.add(self._tally)
        self._read_acts(tally)
        return tally.kills.total()

    def _accepted(self) -> int:
        return sum(
            len(publish.events) for publish in self._account.publishes.values() if publish.accepted
        )

    async def _enough_events(self) -> None:
        self._account.read()
        while self._accepted() < self._plan.events:
            await asyncio.sleep(0.5)
            self._account.read()

    async def _drained(self) -> None:
        """Wait until no message waits or is being worked on; those of dead workers return by the
        visibility timeout."""
        redis, keys = self._services.redis, self._services.keys
        deadline = monotonic() + _DRAIN_LIMIT_S
        while await asyncio.to_thread(redis.llen, EVENTS_QUEUE) or await asyncio.to_thread(
            redis.hlen, keys.unacked
        ):
            if monotonic() > deadline:
                return  # the books will show what is left
            await asyncio.sleep(0.02)

    # -- judging --

    def _read_acts(self, tally: Tally) -> None:
        for role in POINTS:
            tally.read_acts(self._directory / f"{role}.points", role)

    def _judged(self) -> Outcome:
        self._read_acts(self._tally)
        self._account.read()
        bounds = self._account.bounds()
        verdict = self._verdict(bounds)
        seen = msgspec.json.decode((self._directory / "reader").read_bytes(), type=Seen)
        for line in seen.wrong:
            verdict.note(f"a reader saw: {line}")
        faults: dict[str, Counter[str]] = {}
        for (role, _), proxy in self._proxies.items():
            faults.setdefault(role, Counter()).update(proxy.faults)
        self._services.close()
        return Outcome(
            self._tally, faults, verdict, seen.reads, bounds.accepted_events, bounds.unknown_events
        )

    def _verdict(self, bounds: Bounds) -> Verdict:
        verdict, services = Verdict(), self._services
        counters = [key for key in bounds.most if key[0] != DEAD]
        live = oracle.read_counts(services, counters, self._random)
        services.flush()
        services.move_dead_letters()
        oracle.judge_books(services, bounds, verdict)
        stored = oracle.stored_counts(services)
        oracle.judge(bounds, counters, stored, "Postgres", verdict)
        oracle.judge_whole(bounds, stored, verdict)
        read = oracle.read_counts(services, counters, self._random)
        oracle.judge(bounds, [], read, "stats", verdict)
        exact = {key: n for key, n in live.items() if key[0] != "value"}
        oracle.judge(bounds, [], exact, "stats before the last flush", verdict)
        dead = oracle.dead_counts(services, bounds)
        oracle.judge(
            bounds, [key for key in bounds.most if key[0] == DEAD], dead, "dead letters", verdict
        )
        return verdict


def _celery_arguments(role: str, name: str, random: Random) -> list[str]:
    """As in the README; most workers skip the second that Celery waits for others at the start."""
    if role == "beat":
        return ["-A", "tasks", "beat", "--pidfile="]
    quick = random.random() < 0.8
    queues = "analytics.events" if role == "events" else "analytics.flush,analytics.maintenance"
    pool = ["-P", "solo"] if role == "events" or random.random() < 0.7 else ["-c", "2"]
    return [
        *("-A", "tasks", "worker", "-Q", queues, "-n", f"{name}@chaos", *pool),
        *(("--without-mingle", "--without-gossip") if quick else ()),
    ]
