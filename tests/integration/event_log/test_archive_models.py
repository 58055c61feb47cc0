"""The archive against a plain model of it: consumers that read, take over, store, finish, repeat
and die in any order leave every event in the table once, and what an audit compares adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pipeline.event_log.archive import Archive
from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.event_log.streams import Entry
from pipeline.services import Services
from pipeline.upkeep.audits.counts import audit
from tests.helpers.support import TODAY, count_events, event, execute

TIMES = st.integers(1, 2)
"""Once, or again after a lost reply."""


class Archiving(RuleBasedStateMachine):
    """Workers that count, and consumers whose memory are the bundles."""

    services: ClassVar[Services]

    held = Bundle("held")
    """Entries that a consumer has, not stored yet."""
    stored = Bundle("stored")
    """Entries that a consumer has stored, not finished yet."""

    @initialize()
    def begin(self) -> None:
        """Nothing is there."""
        self.services.redis.flushdb()
        tables = (
            "events, archived_entries, analytics_daily, analytics_hourly, flush_batches, "
            "analytics_event_types, analytics_event_properties"
        )
        execute(self.services, f"DELETE FROM {'; DELETE FROM '.join(tables.split(', '))}")
        self.counted: Counter[str] = Counter()
        self.users = 0

    @rule(events=st.integers(1, 3))
    def count(self, events: int) -> None:
        """A worker counts a batch, which is one entry."""
        names = [f"u{self.users + n}" for n in range(events)]
        self.users += events
        count_events(
            self.services, *(event(user_id=name, properties={"path": "/"}) for name in names)
        )
        self.counted.update(names)

    @rule(target=held, count=st.integers(1, 3))
    def read(self, count: int) -> object:
        """A new consumer gets what none has got yet."""
        if not self.services.event_log.open():
            return multiple()
        found = self.services.event_log.read(0, f"c{self.users}", count)
        return found if found else multiple()

    @rule(target=held, count=st.integers(1, 3))
    def take_over(self, count: int) -> object:
        """A consumer takes over what others hold, dead or not."""
        log = self.services.event_log
        found = next(log.claim_stale(0, "other", 0, count), None) if log.open() else None
        return found or multiple()

    @rule(target=stored, entries=held, times=TIMES)
    def store(self, entries: Sequence[Entry], times: int) -> object:
        """A consumer stores what it holds; it may do so long after others have."""
        for _ in range(times):
            self.services.archive.store(entries)
        return entries

    @rule(entries=consumes(stored), times=TIMES)
    def finish(self, entries: Sequence[Entry], times: int) -> None:
        """It acknowledges and deletes."""
        for _ in range(times):
            self.services.event_log.finish(entries)

    @rule(entries=consumes(held))
    def die(self, entries: Sequence[Entry]) -> None:
        """A consumer ends, with what it held."""

    @rule()
    def run_whole(self) -> None:
        """A run of the archive from beginning to end, which takes over what anybody holds."""
        archive_entries(self.services.event_log, self.services.archive, ArchiveOptions(idle_s=0))
        assert self.services.event_log.read_status()["entries"] == 0
        assert self.archived() == self.counted

    @rule()
    def flush(self) -> None:
        """Counters move to Postgres."""
        self.services.flush()

    @rule()
    def look(self) -> None:
        """Archive, log and counters agree at any moment, and none is there twice."""
        parts = (self.services.counters, self.services.event_log, self.services.engine)
        assert audit(*parts, TODAY, TODAY) == []
        archived = self.archived()
        assert archived <= self.counted
        assert self.catalogued() == {archived.total()} - {0}
        log = self.services.event_log.read_status()
        assert log["bytes"] >= 0
        assert (log["events"] == 0) == (log["entries"] == 0)

    def archived(self) -> Counter[str]:
        rows = execute(self.services, "SELECT user_id FROM events")
        return Counter(user for [user] in rows)

    def catalogued(self) -> set[int]:
        """The events of the type, and of each of its properties; nothing while there is none."""
        tables = ("analytics_event_types", "analytics_event_properties")
        return {
            row[0]
            for name in tables
            for row in execute(self.services, f"SELECT events FROM {name}")
        }

    def teardown(self) -> None:
        self.run_whole()
        self.look()


def check(services: Services, examples: int, *, shrink: bool) -> None:
    class Here(Archiving):
        pass

    Here.services = services
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        ),
    )


@pytest.mark.timeout(300)
def test_any_order_of_steps_archives_each_event_once(services: Services) -> None:
    check(services, 40, shrink=True)


@pytest.mark.timeout(300)
def test_the_model_sees_an_archive_without_its_ledger(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "enter", lambda self, _, read: {one.name for one in read})
    with pytest.raises(AssertionError):  # by one of the first, nearly always
        check(services, 400, shrink=False)
