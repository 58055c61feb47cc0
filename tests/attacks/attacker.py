"""The process of an attack: `python -m tests.attacks.attacker NAME`, with the target as JSON on
standard input. It attacks until SIGTERM, and then prints what it sent as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from tests.attacks.wire import Connection

_TIMEOUT_S = 15.0
_PAUSE_S = 0.2
"""Before a connection that the server closed is opened again."""


@dataclass
class Target:
    """Whom to attack, with what an attacker may have."""

    port: int
    page_key: str
    """It stands in a public page."""
    page_origin: str
    read_token: str
    """Of a customer who may read counts, for those attacks that need one."""
    made: Counter[str] = field(default_factory=Counter)
    """Requests and what came of them."""

    async def ask(
        self, sent: bytes, source: str, connection: Connection | None
    ) -> Connection | None:
        """Send a request and read its answer; returns the connection while it can be used again."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if connection is None or connection.closed:
                    connection = await Connection.open(self.port, source)
                self.made[str(await connection.exchange(sent))] += 1
                return connection
        except (OSError, EOFError, ValueError) as error:
            self.made["time-out" if isinstance(error, TimeoutError) else "closed"] += 1
            if connection is not None:
                connection.abort()
            return None

    async def flood(
        self,
        compose: Callable[[int], bytes],
        per_s: float,
        sources: Sequence[str],
        at_once: int = 8,
    ) -> None:
        """Send requests for ever, no faster than `per_s`, on so many kept connections."""
        number, due_s = 0, monotonic()

        async def send_in_turn(source: str) -> None:
            nonlocal number, due_s
            connection: Connection | None = None
            while True:
                number, at_s = number + 1, due_s
                due_s = max(due_s, monotonic() - 0.5) + 1 / per_s  # half a second is made up for
                sent = compose(number)
                await asyncio.sleep(at_s - monotonic())
                connection = await self.ask(sent, source, connection)

        lanes = (sources[n % len(sources)] for n in range(max(at_once, len(sources))))
        await asyncio.gather(*(send_in_turn(source) for source in lanes))

    async def hold(
        self, count: int, sources: Sequence[str], first: bytes, trickle: bytes, every_s: float
    ) -> None:
        """Hold so many connections for ever: send `first`, then `trickle` again and again."""

        async def hold_one(source: str) -> None:
            while True:
                with contextlib.suppress(OSError):
                    connection = await Connection.open(self.port, source)
                    self.made["opened"] += 1
                    try:
                        await self._trickle(connection, first, trickle, every_s)
                    finally:
                        connection.abort()
                await asyncio.sleep(_PAUSE_S)

        await asyncio.gather(*(hold_one(sources[n % len(sources)]) for n in range(count)))

    @staticmethod
    async def _trickle(
        connection: Connection, first: bytes, trickle: bytes, every_s: float
    ) -> None:
        ended = asyncio.ensure_future(connection.ended())
        try:
            await asyncio.wait_for(connection.send(first), _TIMEOUT_S)
            while not (await asyncio.wait({ended}, timeout=every_s))[0]:
                await connection.send(trickle)
        finally:
            ended.cancel()


def addresses(count: int, first: int = 2) -> list[str]:
    """So many addresses of this machine's loopback network, none of them the honest clients'."""
    return [f"127.0.{n // 250}.{first + n % 250}" for n in range(count)]


async def main(name: str) -> None:
    """Attack until SIGTERM."""
    from tests.attacks.kinds.table import ATTACKS

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(**json.load(sys.stdin))
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await ATTACKS[name].run(target)
        await asyncio.Event().wait()  # until SIGTERM
    print(json.dumps(target.made))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
