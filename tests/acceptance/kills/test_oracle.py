"""The campaign's oracle, without the kills: it finds nothing wrong with any measure, and the fault
of each version that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.counting import increments, sums
from pipeline.counting.apply import Counters
from pipeline.counting.batch import Applied, Delivery
from pipeline.event.model import Event
from pipeline.flushing import store
from pipeline.flushing.claims import Claim, Claims
from pipeline.postgres.sealing import seals
from pipeline.redis.keys import MEASURES
from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers, finish
from tests.chaos.checks import oracle, people
from tests.chaos.checks.account import Account
from tests.chaos.checks.oracle import Verdict, reach_verdict
from tests.chaos.processes.producer import Producer, Work
from tests.chaos.stage import SETTINGS
from tests.conftest import MakeServices
from tests.helpers.measures.before_quarters import KeysOfHours
from tests.helpers.support import message

PUBLISHES = 12


class Campaign:
    """Producers that count what they publish at once, as a worker would, and write it down."""

    def __init__(self, services: Services, logs: Path) -> None:
        self.services = services
        self._logs = logs
        self._random = Random(7)
        self._producers = 0

    def send(self, events: list[dict[str, Any]], *, retry: bool) -> None:
        raise AssertionError("what `pipeline` sends is numbered, and no worker takes it here")

    def send_foreign(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        """A message that is counted twice: the worker did not see the reply."""
        now = datetime.now(UTC)
        found = message(*[Event.create(**one, now=now) for one in events], task_id=task_id)
        for _ in range(2):
            self.services.counters.apply([found], now)

    def publish(self) -> None:
        """Publish as a new producer, with users of its own."""
        self._producers += 1
        work = Work(f"p{self._producers}", seed="", logs=f"{self._logs}", events_per_s=1)
        producer = Producer(work, self)
        for number in range(1, PUBLISHES + 1):
            events = list(producer._events(number, False, self._random))
            producer._publish_unnumbered(events, self._random, number, delayed=False)

    def play(self) -> None:
        """Publish, flush and seal, and again for days that are sealed."""
        for _ in range(2):
            self.publish()
            self.services.flush()
            self.services.seal_users(datetime.now(UTC))
        self.publish()

    def judge(self) -> Verdict:
        account = Account(self._logs)
        account.read()
        return reach_verdict(self.services, account.bounds(), self._random)


@pytest.fixture
def campaign(
    make_services: MakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Campaign:
    monkeypatch.setattr(oracle, "_ASKED_ONE_BY_ONE", 10)
    return Campaign(make_services(**SETTINGS), tmp_path)


def test_of_a_version_without_faults_nothing_is_wrong(campaign: Campaign) -> None:
    campaign.play()
    verdict = campaign.judge()
    assert verdict.good, verdict


Break = Callable[[pytest.MonkeyPatch], None]


def add_sums_in_a_second_step(patch: pytest.MonkeyPatch) -> None:
    """As an apply would that adds them after the script: again when it is repeated."""
    apply = Counters.apply

    def applying(self: Counters, deliveries: list[Delivery], now: datetime) -> Applied:
        options = self.options
        events = [one for delivery in deliveries for one in delivery.events]
        counted = increments.count(events, {}, self.keys, now, options.sums)
        fields = counted.fields.get(MEASURES, {})
        for name, n in fields.items():
            self.client.hincrby(self.keys.live_buckets[MEASURES], name, n)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(sums.PropertySums, "list_buckets", lambda _: {})
            return apply(self, deliveries, now)

    patch.setattr(Counters, "apply", applying)


def lose_sums(patch: pytest.MonkeyPatch) -> None:
    """As an apply would that adds them after the script, and is killed before that once."""
    list_buckets, times = sums.PropertySums.list_buckets, iter(range(1_000_000))
    patch.setattr(
        sums.PropertySums, "list_buckets", lambda of: {} if next(times) < 10 else list_buckets(of)
    )


def count_in_the_wrong_bin(patch: pytest.MonkeyPatch) -> None:
    count_bins = sums.count_bins

    def one_off(scaled: Iterable[int], decimals: int) -> dict[int, int]:
        return {number + 1: n for number, n in count_bins(scaled, decimals).items()}

    patch.setattr(sums, "count_bins", one_off)


def take_the_quarter_before(patch: pytest.MonkeyPatch) -> None:
    quarter_text = increments.quarter_text

    def before(at: datetime) -> str:
        return quarter_text(at.replace(minute=max(0, at.minute - 1)))

    patch.setattr(increments, "quarter_text", before)


def forget_kind(kind: str) -> Break:
    """A flush that takes a kind of counter and does not store it."""

    def break_flush(patch: pytest.MonkeyPatch) -> None:
        rows_of_fields = store.rows_of_fields

        def forgetting(pages: Any, keys: Any) -> Any:
            kept = [
                {name: n for name, n in page.items() if not name.startswith(f"{kind}:".encode())}
                for page in pages
            ]
            return rows_of_fields(kept, keys)

        patch.setattr(store, "rows_of_fields", forgetting)

    break_flush.__name__ = f"forget_{kind}"
    return break_flush


def claim_buckets_of_before(patch: pytest.MonkeyPatch) -> None:
    """A flush that does not know of quarter hours, sums and sums by value."""
    claim = Claims.claim

    def of_before(self: Claims, batch_id: str, limit: int, newest: tuple[int, int]) -> Claim:
        return claim(Claims(self.client, KeysOfHours()), batch_id, limit, newest)

    patch.setattr(Claims, "claim", of_before)


def keep_seals(patch: pytest.MonkeyPatch) -> None:
    """A flush that leaves the seals of the days to which its events belong."""
    patch.setattr(store, "unseal", lambda *_: None)


@pytest.mark.parametrize(
    ("break_version", "found"),
    [
        (add_sums_in_a_second_step, "'sum', "),
        (lose_sums, "'sum', "),
        (count_in_the_wrong_bin, "'bin', "),
        (take_the_quarter_before, "'quarter', "),
        (forget_kind("quarter"), "'quarter', "),
        (forget_kind("sum"), "'sum', "),
        (forget_kind("bin"), "'bin', "),
        (forget_kind("sumby"), "'value sum', "),
        (claim_buckets_of_before, "Postgres: ('quarter', "),
        (keep_seals, "users of any type "),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_the_fault_of_a_version_is_found(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, break_version: Break, found: str
) -> None:
    break_version(monkeypatch)
    if not found.startswith("users"):  # which takes most of the time, and is not what is asked
        monkeypatch.setattr(people, "_compare_ranges", lambda *_: ())
    campaign.play()
    verdict = campaign.judge()
    assert any(found in line for line in verdict.wrong), verdict


@contextmanager
def a_flush_about_to_commit(
    campaign: Campaign, redis_url: str, postgres_url: str
) -> Iterator[None]:
    with Flushers(redis_url, postgres_url, 10**6).paused("before commit") as flush:
        yield
        finish(flush)


def test_a_sealing_that_does_not_wait_for_transfers_is_found(
    campaign: Campaign, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.publish()
    campaign.services.flush()
    campaign.publish()
    monkeypatch.setattr(seals, "wait_for_transfers", lambda *_: None)
    with a_flush_about_to_commit(campaign, redis_url, postgres_url):
        campaign.services.seal_users(datetime.now(UTC))
    verdict = campaign.judge()
    assert any("users of any type " in line for line in verdict.wrong), verdict
