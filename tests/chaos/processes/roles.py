"""The processes that the campaign plays its cards on: forks of a zygote, and the servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec

from pipeline.embedded import Server
from pipeline.embedded.postgres import probe
from pipeline.embedded.server import Readiness
from tests.chaos.cards import Card
from tests.chaos.checks.tally import Tally
from tests.chaos.points import Fate, State
from tests.chaos.processes.zygote import Order, Report
from tests.helpers.support import ROOT, environment_without_settings

_POINT_LIMIT_S = 8.0
_RESTART_LIMIT_S = 12.0
_RECOVERY_LIMIT_S = 60.0
_DEATH_LIMIT_S = 0.5
_LONGEST_SERVER_STOP_S = 2.0
_POLL_S = 0.01
_PAUSE_AFTER_OWN_END_S = 0.2


class Slot(Protocol):
    """A place in which one process of a role runs, and is replaced when it dies."""

    role: str
    lock: asyncio.Lock
    """Held while a card is played on the slot."""

    async def play(self, card: Card) -> bool:
        """Do to the process what the card says; False when that was not possible."""


class Zygotes:
    """A running zygote (see `zygote`): forks children by name and tells when they end."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self.reading: asyncio.Task[None] | None = None
        """Ends with the zygote."""

    async def start(self) -> None:
        """Start it and wait until it has imported all that its children need."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.processes.zygote", self._kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment_without_settings(),
            cwd=ROOT,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError(f"the {self._kind} zygote cannot start: see its output")
        self.reading = asyncio.create_task(self._read())

    def fork(self, order: Order) -> asyncio.Future[int]:
        """Fork a child; the future brings its exit status, minus a signal when that ended it."""
        self._ends[order.name] = asyncio.get_running_loop().create_future()
        self._send(order)
        return self._ends[order.name]

    def signal(self, name: str, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to a child, if it lives."""
        self._send(Order(name, signal=number, group=group))

    async def stop(self) -> None:
        """End it, and all of its children."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        if self.reading is not None:
            await self.reading

    def _send(self, order: Order) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Report).decode
        while line := await self._process.stdout.readline():
            report = decode(line)
            self._ends.pop(report.name).set_result(report.status)


class ForkedSlot:
    """A slot whose processes a zygote forks: workers, beat, producers."""

    def __init__(
        self, role: str, zygote: Zygotes, order: Callable[[], Order], tally: Tally, directory: Path
    ) -> None:
        """`order` makes the order for the next process; `directory` is for the files of points."""
        self.role = role
        self.lock = asyncio.Lock()
        self.records = directory / f"{role}.points"
        self._zygote = zygote
        self._order = order
        self._tally = tally
        self._fate_path = directory / f"{role}-{id(self)}.fate"
        self._fate = Fate(self._fate_path)
        self._name = ""
        self._end: asyncio.Future[int] | None = None
        self._expected = False
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the first process; from now on one that ends is replaced."""
        self._fork()
        self._keeping = asyncio.create_task(self._keep())

    async def play(self, card: Card) -> bool:
        if card.point is not None:
            return await self._play_point(card)
        end = await self._living()
        if card.action == "kill":
            self._zygote.signal(self._name, signal.SIGKILL)
            if await asyncio.shield(end) != -signal.SIGKILL:
                return False  # it came first
            self._tally.kills[self.role] += 1
        elif card.action == "restart":
            await self._terminate(end)
            self._tally.restarts[self.role] += 1
        else:
            self._zygote.signal(self._name, signal.SIGSTOP, group=True)
            self._tally.stops[self.role] += 1
            await asyncio.sleep(card.lasts_s)
            self._zygote.signal(self._name, signal.SIGCONT, group=True)
        return True

    async def finish(self) -> None:
        """End the process warmly, for good."""
        async with self.lock:
            self.abandon()
            if self._end is not None and not self._end.done():
                await self._terminate(self._end)

    def abandon(self) -> None:
        """Replace no process from now on."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def _play_point(self, card: Card) -> bool:
        end = await self._living()
        state = State.KILL if card.action == "kill" else State.STOP
        self._fate.arm(str(card.point), state, card.passes)
        deadline = asyncio.get_running_loop().time() + _POINT_LIMIT_S
        while not self._fate.done and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_S)
        if not self._fate.done:
            self._fate.disarm()
            self._tally.not_reached[str(card.point)] += 1
            return False
        if state is State.STOP:
            await asyncio.sleep(card.lasts_s)
            self._zygote.signal(self._name, signal.SIGCONT, group=True)
        else:
            # In a flush worker with a pool it was a child that died, and the worker goes on.
            await asyncio.wait([end], timeout=_DEATH_LIMIT_S)
        return True

    async def _living(self) -> asyncio.Future[int]:
        """The end of the process that runs now, waiting for a new one if there is none."""
        while self._end is None or self._end.done():
            await asyncio.sleep(_POLL_S)
        return self._end

    async def _terminate(self, end: asyncio.Future[int]) -> None:
        self._expected = True
        self._zygote.signal(self._name, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(end), _RESTART_LIMIT_S)
        except TimeoutError:
            self._tally.slow_restarts[self.role] += 1
            self._zygote.signal(self._name, signal.SIGKILL)
            await asyncio.shield(end)

    def _fork(self) -> None:
        order = self._order()
        order.fate, order.record = str(self._fate_path), str(self.records)
        self._name = order.name
        self._expected = False
        self._end = self._zygote.fork(order)

    async def _keep(self) -> None:
        while True:
            assert self._end is not None
            status = await asyncio.shield(self._end)
            if status != -signal.SIGKILL and not self._expected:
                self._tally.own_ends[self.role] += 1
                await asyncio.sleep(_PAUSE_AFTER_OWN_END_S)
            self._fork()


class ServerSlot:
    """The slot of a private server."""

    def __init__(self, server: Server, tally: Tally, random: Random) -> None:
        self.role = server.name
        self.lock = asyncio.Lock()
        self._server = server
        self._tally = tally
        self._random = random

    async def play(self, card: Card) -> bool:
        if card.action == "stop":
            await self._pause(min(card.lasts_s, _LONGEST_SERVER_STOP_S))
            self._tally.stops[self.role] += 1
        elif card.action == "restart":
            await asyncio.to_thread(self._server.stop)
            await asyncio.to_thread(self._server.start)
            self._tally.restarts[self.role] += 1
        else:
            await self._kill()
            self._tally.kills[self.role] += 1
        return True

    async def _kill(self) -> None:
        children = _children(self._server.pid)
        if children and self._random.random() < 0.3:
            # One process of Postgres: it ends all sessions and recovers by itself.
            _signal(self._random.choice(children), signal.SIGKILL)
            async with asyncio.timeout(_RECOVERY_LIMIT_S):
                while await asyncio.to_thread(probe, self._server.url) is not Readiness.READY:
                    await asyncio.sleep(_POLL_S)
            return
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(self._random.random() ** 3)
        await asyncio.to_thread(self._server.start)

    async def _pause(self, seconds: float) -> None:
        pids = [self._server.pid, *_children(self._server.pid)]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
