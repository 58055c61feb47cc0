"""What a campaign plays on: proxies before the servers, processes in their slots, a reader."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec

from pipeline.embedded import Server
from tests.chaos.checks.account import PROPERTY, UNSTAMPED
from tests.chaos.checks.amounts import AMOUNT, DECIMALS
from tests.chaos.checks.tally import Tally
from tests.chaos.processes.control import EVENTS_QUEUE as CONTROL_QUEUE
from tests.chaos.processes.producer import TYPES, Work
from tests.chaos.processes.proxy import Proxy
from tests.chaos.processes.reader import Seen
from tests.chaos.processes.roles import ForkedSlot, ServerSlot, Slot, Zygotes
from tests.chaos.processes.zygote import Order
from tests.helpers.support import ROOT, environment_without_settings

VISIBILITY_TIMEOUT_S = 2
SETTINGS: dict[str, object] = {
    "count_by": {name: [PROPERTY] for name in (*TYPES, UNSTAMPED)},
    "sum": {name: {AMOUNT: DECIMALS} for name in (*TYPES, UNSTAMPED)},
    "values_cap": 10_000_000,  # every publish has a value of its own
    "visibility_timeout_s": VISIBILITY_TIMEOUT_S,
    "flush_interval_s": 0.3,
    "flush_batch_size": 200,
    "flush_threshold": 2_000,
    "publish_timeout_s": 1.0,
    "log_level": "WARNING",
}
_SLOTS = {"events": 3, "flush": 2, "beat": 1, "producer": 3}
_LONGEST_DELAY_S = 1.5 * VISIBILITY_TIMEOUT_S
_HEADROOM = 1.25
"""How much faster producers publish than the events need, because they are dead at times."""


@dataclass(frozen=True)
class Plan:
    """What to do: so many kills and at least so many events in about so many seconds."""

    kills: int
    events: int
    seconds: float
    seed: int
    control: bool = False


class Stage:
    """Everything that runs, but for the servers; `start` it, and `stop` it whatever happens."""

    def __init__(self, plan: Plan, servers: list[Server], directory: Path, tally: Tally) -> None:
        self.proxies: dict[tuple[str, str], Proxy] = {}
        """By role and server."""
        self.slots: dict[str, list[Slot]] = {}
        self.logs = directory / "producers"
        self.logs.mkdir()
        self._plan = plan
        self._servers = servers
        self._directory = directory
        self._tally = tally
        self._random = Random(f"{plan.seed}/stage")
        self._names: Counter[str] = Counter()
        kinds = ["control", "control producer"] if plan.control else ["celery", "producer"]
        self._celery, self._producer = Zygotes(kinds[0]), Zygotes(kinds[1])
        self._reader: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start all processes; each role is then kept running."""
        for role in (*_SLOTS, "reader"):
            for server in self._servers:
                proxy = Proxy(server.port, Random(self._random.random()), _LONGEST_DELAY_S)
                await proxy.start()
                self.proxies[role, server.name] = proxy
        await asyncio.gather(self._celery.start(), self._producer.start())
        if not self._plan.control:
            self._reader = await self._started_reader()
        for role, count in _SLOTS.items():
            self.slots[role] = [self._slot(role, index) for index in range(count)]
        for server in self._servers:
            self.slots[server.name] = [ServerSlot(server, self._tally, self._random)]

    async def broken(self) -> str:
        """Returns, with its name, when something has ended on which all the rest depends."""
        watched = {"a zygote": self._celery.reading, "another zygote": self._producer.reading}
        waiting = {name: task for name, task in watched.items() if task is not None}
        if self._reader is not None:
            waiting["the reader"] = asyncio.create_task(_ended(self._reader))
        await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
        return " and ".join(name for name, task in waiting.items() if task.done())

    async def finish(self, role: str) -> None:
        """End the processes of a role warmly, for good."""
        slots = [slot for slot in self.slots[role] if isinstance(slot, ForkedSlot)]
        await asyncio.gather(*(slot.finish() for slot in slots))

    async def seen(self) -> Seen:
        """End the reader, and return what it saw."""
        if self._reader is None:
            return Seen()
        self._reader.send_signal(signal.SIGTERM)
        await self._reader.wait()
        return msgspec.json.decode((self._directory / "reader").read_bytes(), type=Seen)

    async def stop(self) -> None:
        """End everything at once."""
        if self._reader is not None and self._reader.returncode is None:
            self._reader.kill()
            await self._reader.wait()
        for slots in self.slots.values():
            for slot in slots:
                if isinstance(slot, ForkedSlot):
                    slot.abandon()
        for zygote in (self._celery, self._producer):
            await zygote.stop()
        for proxy in self.proxies.values():
            await proxy.stop()

    def _environment(self, role: str) -> dict[str, str]:
        variables = {
            f"ANALYTICS_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in SETTINGS.items()
        }
        for server in self._servers:
            port = self.proxies[role, server.name].port
            url = server.url.replace(f":{server.port}/", f":{port}/")
            variables[f"ANALYTICS_{server.name.upper()}_URL"] = url
        return variables

    async def _started_reader(self) -> asyncio.subprocess.Process:
        with (self._directory / "reader.output").open("wb") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.chaos.processes.reader", self.logs, self._directory / "reader"),
                env=environment_without_settings() | self._environment("reader"),
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )

    def _slot(self, role: str, index: int) -> ForkedSlot:
        zygote = self._producer if role == "producer" else self._celery
        orders = self._orders(role, index)
        slot = ForkedSlot(role, zygote, orders, self._tally, self._directory)
        slot.start()
        return slot

    def _orders(self, role: str, index: int) -> Callable[[], Order]:
        """Makes the order for each new process of a slot."""
        environment = self._environment(role)
        log = str(self._directory / f"{role}.output")
        random = Random(f"{self._plan.seed}/{role}/{index}")
        before: str | None = None

        def order() -> Order:
            nonlocal before
            self._names[role] += 1
            name = f"{role}{self._names[role]}"
            made = Order(name, environment=environment, log=log)
            if role == "producer":
                made.work, before = self._work(name, random, before), name
            else:
                made.arguments = self._arguments(role, f"{role}{index}@chaos", random)
            return made

        return order

    def _work(self, name: str, random: Random, predecessor: str | None) -> Work:
        # Without stock clients every message must be in the books; so every other time.
        foreign = 0.15 if self._plan.seed % 2 and not self._plan.control else 0.0
        return Work(
            name,
            seed=f"{self._plan.seed}/{name}",
            logs=str(self.logs),
            events_per_s=_HEADROOM * self._plan.events / self._plan.seconds / _SLOTS["producer"],
            threads=random.choice([1, 1, 2]),
            foreign=foreign,
            delayed=0.0 if self._plan.control else 0.05,
            predecessor=predecessor,
        )

    def _arguments(self, role: str, name: str, random: Random) -> list[str]:
        """As documented; but most workers do not wait a second for others at their start."""
        app = "tests.chaos.processes.control" if self._plan.control else "tasks"
        if role == "beat":
            return ["-A", app, "beat", "--pidfile="]
        queues = {
            "events": CONTROL_QUEUE if self._plan.control else "analytics.events",
            "flush": "control.flush"
            if self._plan.control
            else "analytics.flush,analytics.maintenance",
        }
        solo = role == "events" or random.random() < 0.7
        quick = random.random() < 0.8
        return [
            *("-A", app, "worker", "-Q", queues[role], "-n", name),
            *(("-P", "solo") if solo else ("-c", "2")),
            *(("--without-mingle", "--without-gossip") if quick else ()),
        ]


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()
