"""A reader that asks all along: no count may ever fall, nor exceed what had been attempted by then.

    python -m tests.chaos.processes.reader LOGS REPORT

It ends with SIGTERM, and then writes what it saw to the file REPORT.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
import redis
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ServerUnavailable
from pipeline.reading.totals import OUTCOMES
from pipeline.services import Services
from tasks.app import services
from tests.chaos.checks.account import UNSTAMPED, Account, Key
from tests.chaos.checks.measures import READS, read_users
from tests.chaos.processes.producer import TYPES

_PAUSE_S = 0.02
_SHOWN = 20


class Seen(msgspec.Struct):
    """What the reader saw. `wrong` holds one line for each thing that must not be."""

    reads: int = 0
    failed: int = 0
    """Reads that no server answered."""
    wrong: list[str] = []


class Reader:
    """Reads counts until told to stop."""

    def __init__(self, services: Services, account: Account) -> None:
        self._services = services
        self._account = account
        self._random = Random(1)
        self._highest: Counter[Key] = Counter()
        self.seen = Seen()

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set, or the campaign has died."""
        campaign = os.getppid()
        while not stop.wait(_PAUSE_S) and os.getppid() == campaign:
            try:
                self._check_counts(dict(self._counts()))
                self._check_books()
                self.seen.reads += 1
            except (redis.RedisError, DBAPIError, ServerUnavailable):
                self.seen.failed += 1

    def _counts(self) -> Iterator[tuple[Key, int]]:
        stats, today = self._services.stats, datetime.now(UTC).date()
        event_type = self._random.choice(TYPES)
        day = self._random.choice([today, today - timedelta(days=3_700)])
        yield ("daily", event_type, f"{day}"), stats.daily_count(event_type, day)
        for hour, count in enumerate(stats.hourly_counts(event_type, day)):
            yield ("hourly", event_type, f"{day}T{hour:02}"), count
        read = self._random.choice([*READS, read_users])  # all of them would take too long
        yield from read(stats, event_type, day).items()
        yield ("daily", UNSTAMPED, ""), stats.count(UNSTAMPED, today - timedelta(days=1), today)
        if self._account.attempted:
            yield from self._some_of_one_event(self._random.choice(list(self._account.attempted)))

    def _some_of_one_event(self, key: Key) -> Iterator[tuple[Key, int]]:
        stats = self._services.stats
        match key:
            case ("user", user, event_type, day) if day:
                at = date.fromisoformat(day)
                yield key, stats.user_count(user, event_type, at, at)
            case ("value", event_type, value, day) if day:
                at = date.fromisoformat(day)
                yield key, stats.property_count(event_type, "publish", value, at, at)

    def _check_counts(self, counts: dict[Key, int]) -> None:
        self._account.read()  # after the counts were read, so whatever they hold was attempted
        for key, count in counts.items():
            if count < self._highest[key]:
                self._wrong(f"{key} fell from {self._highest[key]} to {count}")
            if count > self._account.attempted[key]:
                self._wrong(f"{key} is {count}, attempted were {self._account.attempted[key]}")
            self._highest[key] = max(count, self._highest[key])

    def _check_books(self) -> None:
        books = self._services.status()["books"]
        for field in ("consumed", *OUTCOMES):
            key = ("books", field)
            if books[field] < self._highest[key]:
                self._wrong(f"{key} fell from {self._highest[key]} to {books[field]}")
            self._highest[key] = books[field]
        if books["consumed"] != sum(books[outcome] for outcome in OUTCOMES):
            self._wrong(f"the books do not balance: {books}")
        counted = sum(of_type.get("counted", 0) for of_type in books["by_type"].values())
        if books["counted"] != counted:
            self._wrong(f"{books['counted']} events counted, by type {counted}")

    def _wrong(self, what: str) -> None:
        if len(self.seen.wrong) < _SHOWN:
            self.seen.wrong.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")


def main() -> None:
    """Read until SIGTERM, then report."""
    logs, report = map(Path, sys.argv[1:])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    reader = Reader(services(), Account(logs))
    reader.run(stop)
    report.write_bytes(msgspec.json.encode(reader.seen))


if __name__ == "__main__":
    main()
