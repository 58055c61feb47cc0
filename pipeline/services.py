"""The parts of the pipeline put together from settings: what tasks and commands work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import redis
from sqlalchemy import Engine

from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.counting import erased_users
from pipeline.counting.apply import Counters
from pipeline.errors import BatchesLeft, ServerUnavailable
from pipeline.event.pseudonyms import is_pseudonym as has_pseudonym_form
from pipeline.event.pseudonyms import list_forms
from pipeline.event_log.archive import KEPT_DAYS, Archive
from pipeline.event_log.archiving import archive_entries
from pipeline.event_log.streams import EventLog
from pipeline.flushing.claims import Claims
from pipeline.flushing.flush import flush
from pipeline.flushing.ledger import newest_claim, prune_batches
from pipeline.flushing.store import Store
from pipeline.installation import queues_of
from pipeline.lanes.status import find_warnings, read_lanes
from pipeline.options import PipelineOptions
from pipeline.postgres import partitions
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import report_misfit
from pipeline.postgres.ownership import check_owner, use_prefix
from pipeline.postgres.sealing.events import seal_events, unseal_events
from pipeline.reading.absence import Absence
from pipeline.reading.catalogue import CatalogueReader, TypeProperties
from pipeline.reading.event_types import TypeReader, TypeSummary
from pipeline.reading.exact import UnstoredCounts
from pipeline.reading.stats import Stats
from pipeline.reading.totals import read_status
from pipeline.redis.client import redis_client
from pipeline.redis.durability import read_durability
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.upkeep import dead_letters
from pipeline.upkeep.audits.counts import Difference, audit
from pipeline.upkeep.audits.packed_events import EventsDifference, audit_packed
from pipeline.upkeep.audits.sums import SumDifference, audit_sums
from pipeline.upkeep.audits.users import UsersDifference, audit_users
from pipeline.upkeep.condition.room import find_log_warnings
from pipeline.upkeep.erase import Erasure, erase_user, find_user
from pipeline.upkeep.event_types.books import forget_rare_types
from pipeline.upkeep.event_types.removal import Removal, TypeRemover
from pipeline.upkeep.people.sealing import seal_users, unseal_users
from pipeline.upkeep.rebuild import Rebuilder, Rebuilt
from pipeline.upkeep.repair import repair_counters
from pipeline.upkeep.retention import Pruned, prune

if TYPE_CHECKING:
    from pipeline.reading.reports.questions import Question
    from pipeline.reading.reports.reports import Reports

SEALING_S = 300.0
"""How long one run seals days; the rest is left to the next."""
CLOCKS_DIFFER = timedelta(hours=1)
"""A day is closed so long after its end, by whichever worker's clock."""


@dataclass(frozen=True)
class Services:
    """Everything that works on one Redis and one Postgres. Made by `connect`."""

    options: PipelineOptions
    redis: redis.Redis
    engine: Engine
    keys: Keys
    counters: Counters
    claims: Claims
    store: Store
    stats: Stats
    types: TypeReader
    event_log: EventLog
    archive: Archive
    broker_url: str | None = field(default=None, repr=False)
    """RabbitMQ's; None where Redis is the broker."""

    @property
    def reports(self) -> Reports:
        """Answers to questions about the archive."""
        from pipeline.reading.reports.reports import Reports  # loads numpy

        return Reports(self.engine)

    @property
    def absence(self) -> Absence:
        """Explains counts that are 0."""
        options = self.options.counters
        return Absence(self.redis, self.keys, self.engine, options.count_by, options.sums)

    def flush(self) -> int:
        """Store every pending counter; returns how many were stored. See `pipeline.flushing`.

        Raises `BatchesLeft` when some could not be. This and the other methods raise
        `ServerUnavailable` when Redis or Postgres does not answer, and `InvalidConfiguration` when
        its tables are of another version or not ours.
        """
        with self._reported():
            return flush(self.claims, self.store, self.options.flush_batch_size)

    def _flush_most(self) -> None:
        """Flush for what is exact without, and only does better when little is left in Redis."""
        with suppress(BatchesLeft):
            self.flush()

    def archive_events(self) -> int:
        """Archive what waits in the event log; returns how many events. See
        `pipeline.event_log`."""
        with self._reported():
            return archive_entries(self.event_log, self.archive)

    def audit(self, first: date, last: date) -> list[Difference]:
        """What differs between archive and counters; see `audit`. Archives first what
        waits, and notes the sum of the differences as `audit_drift` in the books.

        Raises `TooMuchWaiting` when others hold too much of what waits.
        """
        self.archive_events()
        with self._reported():
            found = audit(self.counters, self.event_log, self.engine, first, last)
            by_hour = sum(abs(one.drift) for one in found if one.hour is not None)
            by_day = sum(abs(one.drift) for one in found if one.hour is None)
            with suppress(redis.ResponseError):  # a full Redis; what was found is returned anyway
                self.redis.hset(self.keys.totals, "audit_drift", max(by_hour, by_day))
        return found

    def audit_sums(self, first: date, last: date) -> list[SumDifference]:
        """What differs between sums and the numbers archived; see `pipeline.upkeep.audits.sums`."""
        with self._reported():
            return audit_sums(self.counters, self.event_log, self.engine, first, last)

    def answer(
        self, question: Question, progress: Callable[[float], None], *, fresh: bool = False
    ) -> dict[str, Any]:
        """The answer to a question about the archive, JSON-ready: that of its report, while that is
        current, else made here and kept. `fresh` archives first what waits.

        Raises `QuestionTooLarge` beyond the limits.
        """
        if fresh:
            self.archive_events()
        with self._reported():
            return self.reports.answer_here(question, progress)

    def make_next_report(self) -> UUID | None:
        """Make the report whose turn it is; returns one that waits still. See `Reports`."""
        with self._reported():
            return self.reports.make_next()

    def seal_events(self, now: datetime, anew: Collection[date] = ()) -> list[date]:
        """Seal the raw events of closed days, for at most some minutes; returns the days that were.
        Breaks the seals of the days `anew` before. See `pipeline.postgres.sealing.events`."""
        until_s = time.monotonic() + SEALING_S
        with self._reported():
            unseal_events(self.engine, anew)
            closed = (now - CLOCKS_DIFFER).date()
            return seal_events(self.engine, closed, lambda: time.monotonic() > until_s)

    def audit_packed(self, first: date, last: date) -> list[EventsDifference]:
        """What differs between the packed events of sealed days and their rows; see
        `pipeline.upkeep.audits.packed_events`."""
        with self._reported():
            return audit_packed(self.engine, first, last)

    def audit_users(self, first: date, last: date) -> list[UsersDifference]:
        """What differs between sealed days and their rows; see `pipeline.upkeep.audits.users`."""
        with self._reported():
            return audit_users(self.engine, first, last)

    def seal_users(self, now: datetime, anew: Collection[date] = ()) -> list[date]:
        """Seal the users of closed days; returns the days that were. Breaks the seals of the days
        `anew` before. See `pipeline.upkeep.people.sealing`."""
        with self._reported():
            unseal_users(self.engine, anew)
            return seal_users(self.engine, now)

    def list_types(self, today: date, limit: int) -> tuple[list[TypeSummary], int]:
        """The largest event types, and how many there are; see `TypeReader.list_largest`."""
        with self._reported():
            return self.types.list_largest(today, limit)

    def list_properties(self, event_type: str, today: date, limit: int) -> TypeProperties:
        """The properties of an event type; see `CatalogueReader.list_properties`."""
        with self._reported():
            reader = CatalogueReader(self.engine, self.options.counters)
            return reader.list_properties(event_type, today, limit)

    def remove_types(self, types: Collection[str], today: date) -> Removal:
        """Fold junk event types into `__other__`; totals stay. See `TypeRemover.remove`."""
        self._flush_most()
        self.archive_events()
        with self._reported():
            return self._type_remover().remove(types, today)

    def restore_types(self, types: Collection[str], today: date) -> int:
        """Count removed types under their own names again; returns how many were removed."""
        with self._reported():
            return self._type_remover().restore(types, today)

    def _type_remover(self) -> TypeRemover:
        return TypeRemover(self.counters, self.event_log, self.archive)

    def rebuild(
        self, days: Sequence[date], now: datetime, *, dry_run: bool = False
    ) -> list[Rebuilt]:
        """Make the counters of closed days anew from the archive, each in a transaction; see
        `pipeline.upkeep.rebuild`. When one of them cannot be rebuilt, none is."""
        self._flush_most()
        self.archive_events()
        rebuilder = Rebuilder(self.counters, self.event_log, self.engine)
        with self._reported():
            for day in days:
                rebuilder.check(day, now)
            return [rebuilder.rebuild(day, now, dry_run=dry_run) for day in days]

    def prune(self, today: date, *, dry_run: bool = False) -> Pruned:
        """Drop partitions that are older than the settings say; see `pipeline.upkeep.retention`."""
        events_days = self.options.events_retention_days
        counters_days = self.options.counters_retention_days
        with self._reported():
            return prune(self.engine, today, events_days, counters_days, dry_run=dry_run)

    def erase_user(
        self, user_id: str, asked_by: str = "this process", *, is_pseudonym: bool = False
    ) -> Erasure:
        """Erase a user from Redis, tables and archive; totals stay. See `erase`.

        `asked_by` goes to the log. `is_pseudonym` says that the id is one already.
        """
        self.archive_events()  # what waits in the event log names the user until then
        secret = self.options.counters.user_id_secret
        with self._reported():
            if secret and has_pseudonym_form(user_id):
                self.flush()  # the tables are searched for the plain id
            user = find_user(self.engine, secret, user_id, is_pseudonym=is_pseudonym)
            return erase_user(self.counters, self.engine, user, asked_by)

    def list_user_forms(self, user_id: str) -> tuple[str, ...]:
        """The forms under which a user may be stored: the id as given, and its pseudonym."""
        return list_forms(self.options.counters.user_id_secret, user_id)

    def move_dead_letters(self) -> int:
        """Move dead letters from Redis to Postgres; returns how many."""
        with self._reported():
            return dead_letters.move(self.redis, self.keys, self.engine)

    def repair_counters(self) -> int:
        """Make counters pending again whose names are not; returns how many."""
        with self._reported():
            return repair_counters(self.redis, self.keys)

    def maintain(self, now: datetime) -> None:
        """Make partitions ahead of need, prune ledger entries far older than any flush, and seal
        the users of closed days."""
        oldest = now - timedelta(days=self.options.ledger_days)
        with self._reported():
            partitions.make_ahead(self.engine, now.date(), self.options.partitions_ahead_months)
            prune_batches(self.engine, oldest, self.claims.listed)
            erased_users.expire(self.redis, self.keys)
            self._type_remover().expire(now.date())
            forget_rare_types(self.counters, now.date())
            self.archive.prune_entries(
                now - timedelta(days=KEPT_DAYS), self.event_log.find_oldest_ms()
            )
        self.seal_events(now)
        with self._reported():
            seal_users(self.engine, now, SEALING_S)

    def check_owner(self) -> None:
        """Raise `InvalidConfiguration` where Postgres has the counts of another installation."""
        with self._reported(), self.engine.connect() as connection:
            check_owner(connection)

    def accept_redis_state(self) -> int:
        """Go on from what Redis has, though older than what is stored; returns the new epoch."""
        with self._reported():
            with self.engine.begin() as connection:
                epoch, _ = newest_claim(connection)
            self.claims.start_epoch(epoch + 1)
        return epoch + 1

    def status(self) -> dict[str, Any]:
        """Queue, counters, batches, dead letters and books at this moment, JSON-ready.

        While Postgres is away, `postgres` says why and `dead_letters` counts those in Redis only.
        Where Redis is not known to keep what it acknowledges, `redis` says why.
        """
        status = self.status_of_redis()
        try:
            with report_errors(postgres=self.engine):
                status["dead_letters"] += dead_letters.count_stored(self.engine)
        except ServerUnavailable as error:
            status["postgres"] = str(error)
        return status

    def status_of_redis(self) -> dict[str, Any]:
        """The status without Postgres."""
        with report_errors(redis=self.redis):
            now = read_status(self.redis, self.keys)
            doubt = read_durability(self.redis, self.options.appendfsync).explain()
            status = ({} if doubt is None else {"redis": doubt}) | {
                **vars(now),
                "oldest_pending_s": self.claims.oldest_pending_s(),
                **self.status_of_lanes(),
                "event_log": self.event_log.read_status(),
                "dead_letters": dead_letters.count_waiting(self.redis, self.keys),
            }
        if self.broker_url is not None:  # which says in its own tools only what workers hold
            status |= {"queue_depth": self.queue_depth(), "unacknowledged": None}
        return status

    def queue_depth(self) -> int:
        """How many messages wait in the events queue."""
        queue = queues_of(self.keys.prefix).events
        if self.broker_url is not None:
            from pipeline.producer import rabbitmq

            return rabbitmq.queue_depth(self.broker_url, queue)
        with report_errors(redis=self.redis):
            return sum(int(self.redis.llen(queue + suffix)) for suffix in PRIORITY_SUFFIXES)

    def status_of_lanes(self) -> dict[str, Any]:
        """How many requests for flushes, archive runs and maintenance wait, since when, how far
        behind each is (`lanes`), and a line for what is behind or full (`warnings`); JSON-ready."""
        with report_errors(redis=self.redis):
            queues, log = queues_of(self.keys.prefix), self.event_log.read_status()
            names = [] if self.broker_url else [queues.flush, queues.maintenance]
            lists = [name + suffix for name in names for suffix in PRIORITY_SUFFIXES]
            lanes = read_lanes(self.redis, self.keys, lists)
            lanes["flush"]["behind_s"] = self.claims.oldest_pending_s()
            lanes["archive"]["behind_s"] = log["oldest_s"]
            lanes["maintenance"]["behind_s"] = None
        warnings = find_warnings(lanes, self.options.flush_interval_s)
        warnings += find_log_warnings(log, self.options.counters.event_log)
        return {"lanes": lanes, "warnings": warnings}

    @contextmanager
    def _reported(self) -> Iterator[None]:
        with (
            report_errors(redis=self.redis, postgres=self.engine),
            report_misfit(self.engine),
        ):
            yield

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()
        self.engine.dispose()


def connect_counters(options: PipelineOptions, redis_url: str) -> Counters:
    """The counters alone: all that an event worker needs. Opens no connection.

    Raises `InvalidConfiguration` when the URL is wrong.
    """
    return Counters(redis_client(redis_url), Keys(options.prefix), options.counters)


def connect(
    options: PipelineOptions, redis_url: str, postgres_url: str, broker_url: str | None = None
) -> Services:
    """The services for these servers; opens no connection. `broker_url` is that of RabbitMQ, where
    it is the broker.

    Raises `InvalidConfiguration` when a URL is wrong.
    """
    counters = connect_counters(options, redis_url)
    engine = postgres_engine(postgres_url, options.postgres_schema)
    use_prefix(engine, options.prefix)
    client, keys = counters.client, counters.keys
    kept, unstored = options.counters.kept_properties, UnstoredCounts(client, keys)
    return Services(
        options=options,
        redis=client,
        engine=engine,
        keys=keys,
        counters=counters,
        claims=Claims(client, keys),
        store=Store(engine, keys),
        stats=Stats(unstored, engine, options.counters.sums),
        types=TypeReader(unstored, engine, options.counters),
        event_log=EventLog(client, keys),
        archive=Archive(engine, counters.read_erased_users, kept),
        broker_url=broker_url,
    )
