"""One campaign: start everything, play the deck, let the work come to an end, and judge."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from config.options import pipeline_options
from config.settings import Settings
from pipeline.contract import EVENTS_QUEUE, MAINTAIN, MAINTENANCE_QUEUE
from pipeline.embedded import PrivateServers, Server
from pipeline.postgres import schema
from pipeline.redis.keys import Keys
from pipeline.services import connect
from tests.chaos.cards import Card, deal
from tests.chaos.checks import oracle
from tests.chaos.checks.account import Account
from tests.chaos.checks.oracle import Verdict
from tests.chaos.checks.tally import Tally
from tests.chaos.points import POINTS
from tests.chaos.processes import control
from tests.chaos.processes.reader import Seen
from tests.chaos.stage import SETTINGS, VISIBILITY_TIMEOUT_S, Plan, Stage
from tests.conftest import chosen_programs

_BETWEEN_FAULTS_S = 1.5
"""On average, at each proxy."""
_STUCK = 3
"""A campaign that takes so many times its seconds, and a minute, has got stuck."""
_DRAIN_LIMIT_S = 60.0
_TRIES = 10
_PROGRESS_S = 5.0
_SEALING_EVERY_S = 2.0


class CampaignFailed(Exception):
    """The campaign could not be carried out; nothing is known about the counts."""


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
    """Run one campaign; `say` is told how it goes. Raises `CampaignFailed`, and keeps the logs."""
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
    directory.chmod(0o711)  # Postgres may run as another user
    servers = await asyncio.to_thread(
        PrivateServers.start, directory / "servers", **chosen_programs()
    )
    assert servers.redis is not None
    assert servers.postgres is not None
    try:
        campaign = Campaign(plan, servers.redis, servers.postgres, directory, say)
        outcome = await campaign.run()
    except CampaignFailed as error:
        raise CampaignFailed(f"{error}; logs and data are in {directory}") from error
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
        self,
        plan: Plan,
        redis_server: Server,
        postgres: Server,
        directory: Path,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._redis, self._postgres = redis_server, postgres
        self._directory = directory
        self._say = say
        self._random = Random(plan.seed)
        self._tally = Tally()
        self._stage = Stage(plan, [redis_server, postgres], directory, self._tally)
        self._account = Account(self._stage.logs)
        self._began_s = 0.0

    async def run(self) -> Outcome:
        """Play and judge."""
        self._set_up_database()
        seen = Seen()
        try:
            await self._stage.start()
            self._began_s = monotonic()
            broken = asyncio.create_task(self._stage.broken())
            playing = asyncio.create_task(self._play())
            await asyncio.wait(
                {playing, broken},
                timeout=_STUCK * self._plan.seconds + 60,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not playing.done():
                playing.cancel()
                reason = f"{broken.result()} has ended" if broken.done() else "it got stuck"
                raise CampaignFailed(reason)
            playing.result()
            broken.cancel()
            seen = await self._stage.seen()
        finally:
            await self._stage.stop()
        return self._judged(seen)

    async def _play(self) -> None:
        troubles = [
            asyncio.create_task(self._strike_on(role, server))
            for role, server in self._stage.proxies
        ]
        progress = asyncio.create_task(self._tell())
        if not self._plan.control:
            troubles.append(asyncio.create_task(self._seal_on()))
        try:
            await self._play_deck()
            if not self._plan.control:  # which is slow, and loses in a few events already
                await self._enough_events()
        finally:
            for trouble in (progress, *troubles):
                trouble.cancel()
        for proxy in self._stage.proxies.values():
            proxy.relent()
        await self._stage.finish("producer")
        await self._drained()
        for role in ("beat", "events", "flush"):
            await self._stage.finish(role)

    async def _play_deck(self) -> None:
        deck = deal(
            self._plan.kills,
            self._plan.seconds,
            VISIBILITY_TIMEOUT_S,
            {} if self._plan.control else POINTS,
            Random(self._plan.seed),
        )
        async with asyncio.TaskGroup() as group:
            for card in deck:
                group.create_task(self._play_card(card))

    async def _play_card(self, card: Card) -> None:
        await asyncio.sleep(max(0.0, self._began_s + card.at_s - monotonic()))
        for _ in range(_TRIES):
            slots = self._stage.slots[card.role]
            free = [slot for slot in slots if not slot.lock.locked()]
            slot = self._random.choice(free or slots)
            async with slot.lock:
                if await slot.play(card):
                    return

    async def _strike_on(self, role: str, server: str) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / _BETWEEN_FAULTS_S))
            self._stage.proxies[role, server].strike()

    async def _seal_on(self) -> None:
        """Have flush workers seal closed days all along, to which events come all along too."""
        client = Celery("campaign", broker=self._redis.url, set_as_current=False)
        while True:
            await asyncio.sleep(_SEALING_EVERY_S)
            with suppress(OperationalError):  # Redis is dead just now
                await asyncio.to_thread(
                    client.send_task, MAINTAIN, queue=MAINTENANCE_QUEUE, retry=False
                )

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._account.read()
            tally = Tally()
            tally.add(self._tally)
            self._read_acts(tally)
            self._say(
                f"{monotonic() - self._began_s:5.0f} s: "
                f"{tally.kills.total()} of {self._plan.kills} kills, "
                f"{self._account.accepted} of {self._plan.events} events"
            )

    async def _enough_events(self) -> None:
        self._account.read()
        while self._account.accepted < self._plan.events:
            await asyncio.sleep(0.5)
            self._account.read()

    async def _drained(self) -> None:
        """Wait until no message waits, for its eta too, or is being worked on: those of dead
        workers return by the visibility timeout. What is left after a minute, the verdict will
        show."""
        queue, unacked = EVENTS_QUEUE, "analytics:unacked"
        if self._plan.control:
            queue, unacked = control.EVENTS_QUEUE, control.UNACKED
        deadline = monotonic() + _DRAIN_LIMIT_S
        with redis.Redis.from_url(self._redis.url) as client:
            while monotonic() < deadline:
                with client.pipeline() as at_once:
                    at_once.llen(queue).hlen(unacked).zcard(Keys().delayed)
                    if not any(at_once.execute()):
                        return
                await asyncio.sleep(0.02)

    # -- judging --

    def _set_up_database(self) -> None:
        if self._plan.control:
            control.create_table(self._postgres.url)
            return
        services = connect(
            pipeline_options(Settings(**SETTINGS)), self._redis.url, self._postgres.url
        )
        schema.migrate(services.engine)
        services.close()

    def _read_acts(self, tally: Tally) -> None:
        for role in POINTS:
            tally.read_acts(self._directory / f"{role}.points", role)

    def _judged(self, seen: Seen) -> Outcome:
        self._read_acts(self._tally)
        self._account.read()
        bounds = self._account.bounds()
        if self._plan.control:
            verdict = Verdict()
            found = control.counts(self._redis.url, self._postgres.url)
            oracle.judge(bounds, bounds.most, found, "the control", verdict)
        else:
            services = connect(
                pipeline_options(Settings(**SETTINGS)), self._redis.url, self._postgres.url
            )
            verdict = oracle.reach_verdict(services, bounds, self._random)
            services.close()
        for line in seen.wrong:
            verdict.note(f"a reader saw: {line}")
        faults: dict[str, Counter[str]] = {}
        for (role, _), proxy in self._stage.proxies.items():
            faults.setdefault(role, Counter()).update(proxy.faults)
        return Outcome(
            self._tally, faults, verdict, seen.reads, bounds.accepted_events, bounds.unknown_events
        )
