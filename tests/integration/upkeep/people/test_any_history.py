"""Whatever happens to rows, seals and persons, in any order: measures of users are exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from pipeline.days import list_days
from pipeline.services import Services
from tests.helpers.measures.people import CLOCK, TODAY, Account, day_before, track
from tests.helpers.support import event, execute

TYPES = ("page_view", "purchase", "junk")
PEOPLE = [f"p{n}" for n in range(6)]
AGES = (0, 0, 0, 1, 1, 2, 3, 35, 40, 75, 400)


@dataclass
class History:
    """A random course of events, and the account of it."""

    services: Services
    random: Random
    account: Account = field(default_factory=Account)
    erased: count[int] = field(default_factory=count)
    removed: set[str] = field(default_factory=set)

    def visit(self) -> None:
        """Some users do something, on days of any age, and it is flushed."""
        some = [
            (
                day_before(self.random.choice(AGES)),
                self.random.choice(PEOPLE),
                self.random.choice(TYPES),
            )
            for _ in range(self.random.randint(1, 5))
        ]
        track(self.services, *some)
        for day, person, name in some:
            self.account.seen.add((day, "__other__" if name in self.removed else name, person))

    def seal(self) -> None:
        """Maintenance seals what is closed."""
        self.services.seal_users(CLOCK)

    def break_seals(self) -> None:
        """An operator has some days sealed anew, later."""
        execute(self.services, "DELETE FROM analytics_seals WHERE kind = 'past'")

    def erase(self) -> None:
        """A person is erased, and is a new one when they come back."""
        person = self.random.choice(PEOPLE)
        self.services.erase_user(person)
        stands_for = f"erased {next(self.erased)}"
        self.account.seen = {
            (day, name, stands_for if one == person else one)
            for day, name, one in self.account.seen
        }
        self.services.redis.delete(self.services.keys.forgotten)  # old events of theirs may come
        self.services.redis.hincrby(self.services.keys.totals, "forgotten_version", 1)

    def remove_junk(self) -> None:
        """The rest takes what was junk."""
        self.services.remove_types(["junk"], TODAY)
        self.removed.add("junk")
        self.account.seen = {
            (day, "__other__" if name == "junk" else name, one)
            for day, name, one in self.account.seen
        }

    def rebuild(self) -> None:
        """A day whose rows were damaged is made anew from the archive."""
        days = [day_before(age) for age in (1, 2, 3, 35)]
        day = self.random.choice(days)
        execute(
            self.services,
            f"DELETE FROM analytics_user_daily WHERE date = '{day}' AND user_id = 'p0';"
            f"DELETE FROM analytics_seals WHERE date >= '{day}'",
        )
        self.services.rebuild([day], CLOCK)

    def check(self) -> None:
        """Compare every measure with the account."""
        stats, random = self.services.stats, self.random
        for types in ((), ("page_view",), ("purchase", "__other__"), ("junk",)):
            ages = sorted((random.choice(AGES), random.choice(AGES)), reverse=True)
            first, last = map(day_before, ages)
            found = stats.users(types, first, last)
            assert (found.users, found.new) == self.account.count(types, first, last), types
        active = stats.active_users(TODAY)
        for n, days in ((active.dau, 0), (active.wau, 6), (active.mau, 29)):
            assert n == len(self.account.find((), day_before(days), TODAY))
        found_cohorts = stats.retention("page_view", "purchase", "day", day_before(3), TODAY)
        assert [
            (one.users, list(one.returned)) for one in found_cohorts.cohorts
        ] == self.account.retain("page_view", "purchase", list_days(day_before(3), TODAY))
        assert self.services.audit_users(day_before(500), TODAY) == []


@pytest.mark.parametrize("seed", range(4))
def test_measures_of_users_are_exact_after_any_history(services: Services, seed: int) -> None:
    history = History(services, Random(seed))
    steps = [history.visit] * 4 + [history.seal] * 4 + [history.erase, history.rebuild]
    steps += [history.break_seals] + [history.remove_junk] * (seed % 2)
    for _ in range(20):
        history.random.choice(steps)()
        history.check()


def test_the_account_would_notice_a_user_too_many(services: Services) -> None:
    history = History(services, Random(1))
    history.visit()
    history.account.seen.add((TODAY, "page_view", "no one"))
    with pytest.raises(AssertionError):
        history.check()
    assert event().user_id is None
