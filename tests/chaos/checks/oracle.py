"""The verdict: every counter, key by key, against what the producers wrote down."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from random import Random

from sqlalchemy import text

from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.reading.totals import OUTCOMES
from pipeline.services import Services
from pipeline.upkeep.audits.recount import Recounter
from pipeline.upkeep.audits.recount_state import describe_found
from tests.chaos.checks.account import DEAD, PROPERTY, UNSTAMPED, WHOLE, Bounds, Key
from tests.chaos.checks.measures import read_measures, read_value_sums, stored_measures
from tests.chaos.checks.people import find_wrong_users

_ASKED_ONE_BY_ONE = 200
_SHOWN = 20
_SHOWN_OF_FAMILY = 2
_ALL = 10**7
_AMOUNTS = ("sum", "value sum")
"""Families that do not count events: one that is wrong is an event lost or doubled, at least."""


@dataclass
class Verdict:
    """Events lost and doubled, and one line for each thing that is wrong (the first of many)."""

    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Add a line."""
        if len(self.wrong) < _SHOWN:
            self.wrong.append(what)

    def add(self, other: Verdict) -> None:
        """Take in that of another campaign."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.wrong += other.wrong

    @property
    def good(self) -> bool:
        """Whether everything is as it must be."""
        return not (self.lost or self.doubled or self.wrong)


def reach_verdict(services: Services, bounds: Bounds, random: Random) -> Verdict:
    """Compare everything, before and after a last flush. Nothing else may be at work."""
    verdict = Verdict()
    counters = [key for key in bounds.most if key[0] != DEAD]
    live = read_counts(services, counters, random)
    judge(bounds, (), live, "stats before the last flush", verdict)
    services.flush()
    services.move_dead_letters()
    judge_books(services, bounds, verdict)
    stored = stored_counts(services)
    judge(bounds, counters, stored, "Postgres", verdict)
    judge_whole(bounds, stored, verdict)
    judge_archive(services, verdict)
    judge_audit(services, stored, verdict)
    for line in find_wrong_users(services, bounds):
        verdict.note(line)
    read = read_counts(services, counters, random) | read_values(services, counters, random)
    judge(bounds, (), read, "stats", verdict)
    dead = [key for key in bounds.most if key[0] == DEAD]
    judge(bounds, dead, dead_counts(services, bounds), "dead letters", verdict)
    return verdict


def judge(
    bounds: Bounds, keys: Iterable[Key], counts: Mapping[Key, int], where: str, verdict: Verdict
) -> None:
    """Compare `counts`, as found in `where`, with the bounds, for all `keys` and whatever else
    there is.

    An event adds to a counter of each family, so it is the family that misses most that says how
    many were lost.
    """
    lost: Counter[str] = Counter()
    doubled: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for key in sorted({*keys, *counts}):
        count, least, most = counts.get(key, 0), bounds.least[key], bounds.most[key]
        if not least <= count <= most:
            shown[key[0]] += 1
            if shown[key[0]] <= _SHOWN_OF_FAMILY:
                verdict.note(f"{where}: {key} is {count}, must be {least} to {most}")
        largest = 1 if key[0] in _AMOUNTS else _ALL
        lost[key[0]] += min(max(0, least - count), largest)
        doubled[key[0]] += min(max(0, count - most), largest)
    verdict.lost = max([verdict.lost, *lost.values()])
    verdict.doubled = max([verdict.doubled, *doubled.values()])


def judge_whole(bounds: Bounds, counts: Mapping[Key, int], verdict: Verdict) -> None:
    """A publish is counted whole or not at all, also when it is unknown which."""
    by_publish: Counter[tuple[str, str]] = Counter()
    for key, count in counts.items():
        if key[0] in WHOLE:
            by_publish[key[0], key[2]] += count
    for (family, publish), size in bounds.whole.items():
        if (found := by_publish[family, publish]) not in (0, size):
            verdict.note(f"of the {family} of {publish}, {size}, {found} was counted")


def judge_audit(services: Services, stored: Mapping[Key, int], verdict: Verdict) -> None:
    """The audit of counters and measures finds nothing on the days of the events, nor does a
    recount."""
    for day in sorted({key[2] for key in stored if key[0] == "daily" and key[2]}):
        for one in services.audit(date.fromisoformat(day), date.fromisoformat(day)):
            verdict.note(f"the audit: {one}")
    recounter = Recounter(services.counters, services.event_log, services.engine)
    for line in describe_found(recounter.recount(datetime.now(UTC)))["lines"]:
        verdict.note(f"the recount: {line}")


def judge_archive(services: Services, verdict: Verdict) -> None:
    """Every counted event is in the archive once: all of them were logged as they were counted."""
    # What a killed consumer held is taken over at once.
    archive_entries(services.event_log, services.archive, ArchiveOptions(idle_s=0))
    differing = text(
        "SELECT event_type, hour, coalesce(counted.count, 0), coalesce(archived.count, 0) "
        "FROM analytics_hourly AS counted FULL JOIN ("
        "SELECT event_type, date_trunc('hour', timestamp, 'UTC') AS hour, count(*) FROM events "
        "GROUP BY 1, 2) AS archived USING (event_type, hour) "
        "WHERE counted.count IS DISTINCT FROM archived.count"
    )
    with services.engine.connect() as connection:
        for event_type, hour, counted, archived in connection.execute(differing):
            where = f"{event_type} at {hour.astimezone(UTC):%Y-%m-%dT%H}"
            verdict.note(f"the archive: {archived} of {where}, {counted} were counted")
            verdict.lost = max(verdict.lost, counted - archived)
            verdict.doubled = max(verdict.doubled, archived - counted)


def stored_counts(services: Services) -> dict[Key, int]:
    """Every counter in Postgres."""
    counts: defaultdict[Key, int] = defaultdict(int)
    with services.engine.connect() as connection:
        days = connection.execute(text("SELECT event_type, date, count FROM analytics_daily"))
        for name, day, n in days:
            counts["daily", name, _when(name, f"{day}")] += n
        hours = connection.execute(text("SELECT event_type, hour, count FROM analytics_hourly"))
        for name, hour, n in hours:
            at = f"{hour.astimezone(UTC):%Y-%m-%dT%H}"
            counts["hourly", name, _when(name, at)] += n
        users = connection.execute(
            text("SELECT user_id, event_type, date, count FROM analytics_user_daily")
        )
        for user, name, day, n in users:
            key = "user", user, name, _when(name, f"{day}")
            counts["users", name, key[3]] += key not in counts
            counts[key] += n
        values = connection.execute(
            text("SELECT event_type, property, value, date, count FROM analytics_dimension_daily")
        )
        for name, property_name, value, day, n in values:
            key = "value" if property_name == PROPERTY else property_name
            counts[key, name, value, _when(name, f"{day}")] += n
    return dict(counts) | stored_measures(services, _when)


def read_counts(services: Services, keys: Iterable[Key], random: Random) -> dict[Key, int]:
    """The same counters, but for values, as readers get them at any moment."""
    stats = services.stats
    counts: dict[Key, int] = {}
    user_counters = []
    for key in keys:
        match key:
            case ("daily", name, day) if day:
                counts[key] = stats.daily_count(name, date.fromisoformat(day))
                for hour, n in enumerate(stats.hourly_counts(name, date.fromisoformat(day))):
                    counts["hourly", name, f"{day}T{hour:02}"] = n
                counts |= read_measures(stats, name, date.fromisoformat(day))
            case ("user", *_, day) if day:
                user_counters.append(key)
    for user in {key[1] for key in user_counters}:
        for name, days in stats.user_counts(user).items():
            for at, n in days.items():
                if name != UNSTAMPED:
                    counts["user", user, name, f"{at}"] = n
    for key in _some(user_counters, random):
        _, user, name, day = key
        counts[key] = stats.user_count(user, name, date.fromisoformat(day), date.fromisoformat(day))
    return counts


def read_values(services: Services, keys: Iterable[Key], random: Random) -> dict[Key, int]:
    """The counters of values as readers get them after a flush: all in rankings, some by name."""
    stats = services.stats
    values = [key for key in keys if key[0] == "value" and key[3]]
    counts: dict[Key, int] = {}
    for name, day in {(key[1], key[3]) for key in values}:
        at = date.fromisoformat(day)
        for value, n in stats.top(name, PROPERTY, at, at, limit=_ALL).top:
            counts["value", name, value, day] = n
        counts |= read_value_sums(stats, name, at)
    for key in _some(values, random):
        _, name, value, day = key
        at = date.fromisoformat(day)
        counts[key] = stats.property_count(name, PROPERTY, value, at, at)
    return counts


def _some(keys: Sequence[Key], random: Random) -> list[Key]:
    return random.sample(keys, min(len(keys), _ASKED_ONE_BY_ONE))


def dead_counts(services: Services, bounds: Bounds) -> dict[Key, int]:
    """How many dead letters there are for each event that had to become one, and for others."""
    with services.engine.connect() as connection:
        bodies = connection.execute(text("SELECT body, reason FROM dead_letters")).all()
    counts: Counter[Key] = Counter()
    marks = [key[1] for key in bounds.most if key[0] == DEAD]
    for body, reason in bodies:
        content = bytes(body).decode(errors="replace")
        mark = next((mark for mark in marks if mark in content), f"{content[:100]} ({reason})")
        counts[DEAD, mark] += 1
    return dict(counts)


def judge_books(services: Services, bounds: Bounds, verdict: Verdict) -> None:
    """The books at the end: nothing waits, all of our messages were consumed."""
    status = services.status()
    books = status["books"]
    for name in ("queue_depth", "unacknowledged", "pending_counters", "inflight_batches"):
        if status[name]:
            verdict.note(f"{name} is {status[name]} at the end")
    if books["consumed"] != sum(books[outcome] for outcome in OUTCOMES):
        verdict.note(f"the books do not balance: {books}")
    if books["missing_messages"] or not books["balanced"]:
        verdict.note(f"{books['missing_messages']} messages are missing in the books")
    totals = services.redis.hgetall(services.keys.totals)
    published = int(totals.get(b"published_messages", 0))
    least, most = bounds.published
    if not least <= published <= most:
        verdict.note(f"published_messages is {published}, must be {least} to {most}")
    for name in ("expired_counters", "repaired_counters"):
        if books[name]:
            verdict.note(f"{name} is {books[name]}, must be 0")


def _when(event_type: str, when: str) -> str:
    return "" if event_type == UNSTAMPED else when
