"""Every Redis key: its name, its type, its lifetime, and the way back from a counter's name to what
it counts.

| key                                       | type       | lifetime                          |
| ----------------------------------------- | ---------- | --------------------------------- |
| `counter:{type}:{YYYY-MM-DD}`             | string     | until claimed by a flush          |
| `counter:{type}:{YYYY-MM-DD:HH}`          | string     | until claimed: of the version before |
| `gap:{type}:{reason}:{YYYY-MM-DD:HH}`     | string     | until claimed                     |
| `pending_flush`                           | set        | while not empty: names of the above |
| `live:{bucket}`                           | hash       | until claimed                     |
| `inflight:{batch}`                        | hash       | until settled                     |
| `inflight:{batch}:{bucket}`               | hash       | until settled                     |
| `batches`                                 | sorted set | members leave a day after they settle |
| `user:…`, `dim:…`                         | string     | until claimed: of the version before |
| `values:{type}:{property}:{YYYY-MM-DD}`   | set        | 2 days past its day               |
| `types:{YYYY-MM-DD}` and `…:pages`        | set        | 2 days past its day               |
| `types:past:{YYYY-MM-DD}` and `…:pages`   | set        | 2 days past the day of arrival    |
| `seen:event_id:{n}`, `seen:task:{n}`      | set        | the duplicate window, in halves |
| `types:removed`                           | sorted set | 30 days after the newest removal  |
| `seen:event:{n}`                          | set        | the same: the version before made them |
| `dead`                                    | stream     | until moved to Postgres           |
| `events:{n}`                              | stream     | permanent; entries until archived |
| `events:sizes`                            | hash       | permanent: what the streams hold  |
| `totals`                                  | hash       | permanent: the books              |
| `inner`                                   | set        | permanent: see `installations.py` |
| `access`                                  | hash       | permanent: write keys, read tokens |
| `producer:{id}`                            | string     | 1 day                             |
| `forgotten`                               | hash       | permanent; entries 30 days        |
| `workers`, `beats`                        | sorted set | an hour after the last heartbeat  |
| `workers:discarding`                      | string     | 3 minutes: see `discarding.py`    |
| `history`                                 | stream     | 1 day, as each of its samples     |
| `flush_requested`                         | string     | a few seconds                     |
| `lane:{lane}`                             | hash       | 3 seconds, while a run goes on    |
| `requests`                                | hash       | permanent: runs asked for, and made |
| `redbeat:…`                               | of celery-redbeat | permanent; its lock 25 s |
| `recount`                                 | string     | 30 days: see `recount_state.py`   |
| `limit:…`                                 | string     | 20 seconds: what was sent of late |
| `salt`                                    | string     | 1 day: hashes addresses in `limit` |
| `salt:{YYYY-MM-DD}`                       | string     | its day: hashes visitors of sessions |
| `seen:session:{digest}`                   | string     | 30 minutes after its last event   |
| `seen:sessions:{site}`                    | string     | 30 minutes: new sessions of a site |
| `viewer:{digest}`, `sign_in:{digest}`     | string     | 14 days; 10 minutes               |
| `unacked`, `unacked_index`                | kombu's    | while messages are being worked on |
| `delayed`                                 | sorted set | until its messages are due        |
| `jobs:unacked…`                           | kombu's    | while jobs are being worked on    |

All stand under one prefix (`analytics:` by default). Segments are percent-encoded, so no input can
reach another key and every counter's name parses back to exactly what made it.

Counters of users and of properties' values are fields of a few hashes, the buckets. A field is
`{user}:{type}:{YYYY-MM-DD}` or `{type}:{property}:{value}:{YYYY-MM-DD}`, and the counter's name has
`user:` or `dim:` before it, as if it were a key. The bucket is that of the user, or of the value.

The last three buckets hold what the version before does not know of, so that its flushes leave them
alone. Their fields begin with their kind, as the counters' names do after the prefix:

| bucket | field                                                      | counts          |
| ------ | ---------------------------------------------------------- | --------------- |
| 16     | `quarter:{type}:{YYYY-MM-DD:HH:MM}`                        | quarter hours   |
| 17     | `sum:{type}:{property}:{part}:{YYYY-MM-DD:HH:MM}`          | sums            |
| 17     | `bin:{type}:{property}:{bin}:{YYYY-MM-DD}`                 | numbers by size |
| 18     | `sumby:{type}:{property}:{by}:{value}:{part}:{YYYY-MM-DD}` | sums by value   |
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from datetime import date, datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import unquote
from zlib import crc32

from pipeline.days import UTC, quarter_text
from pipeline.redis.counters import (
    COUNT,
    NOT_NUMBERS,
    BinCounter,
    Counter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    QuarterCounter,
    SumCounter,
    UserCounter,
    ValueCounter,
    ValueSumCounter,
)

KINDS = frozenset(
    {
        *("access", "batches", "beats", "counter", "dead", "delayed", "dim", "events"),
        *("flush_requested", "forgotten", "gap", "history", "inflight", "inner", "jobs", "lane"),
        *("limit", "live", "pending_flush", "producer", "recount", "redbeat", "requests", "salt"),
        *("seen", "sign_in", "totals", "types", "unacked", "unacked_index", "unacked_mutex"),
        *("user", "values", "viewer", "workers"),
    }
)
"""What can follow the prefix in a key of ours, up to the next colon."""

BUCKETS = 16
"""Enough for millions of counters, and few enough to look into each. Another number would lose
sight of fields: a counter is looked for in one bucket only."""
QUARTERS, MEASURES, MEASURES_BY_VALUE = range(BUCKETS, BUCKETS + 3)
"""Numbers of the buckets of quarter hours, of sums and distributions, and of sums by value."""
ALL_BUCKETS = MEASURES_BY_VALUE + 1
PAD = "pad"
"""A field of every bucket, with a long value: Redis keeps a small hash of short values as a list,
and looks through all of it for a field."""

_PART = re.compile(rf"{COUNT}|{NOT_NUMBERS}|e0|e-?[1-9][0-9]?")
_MINUTES = ("00", "15", "30", "45")
_RESERVED = re.compile(r"[:%{}\s]")


@lru_cache(maxsize=65_536)
def key_text(name: bytes) -> str:
    """A Redis key as text, which leads back to its bytes even where they are no UTF-8."""
    return name.decode(errors="surrogateescape")


def escape(segment: str) -> str:
    """Percent-encode what would end or confuse a key segment: `:`, `%`, braces and white space."""
    return _RESERVED.sub(_percent, segment)


# Types, properties and days come again and again.
escape_again = lru_cache(maxsize=65_536)(escape)


def bucket_of(head: str) -> int:
    """The bucket of fields that begin with this: an escaped user id, or all of a value's field but
    its day."""
    return crc32(head.encode(errors="surrogateescape")) % BUCKETS


# It takes less memory than an id and names no user; no collision of 120 bits is to be expected.
def digest_id(*parts: str) -> str:
    """20 characters in place of an event's, a task's or an erased user's id; no part has a NUL."""
    digest = blake2b("\0".join(parts).encode(), digest_size=15).digest()
    return b2a_base64(digest, newline=False).decode()


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())


_COLONS_OF_USER, _COLONS_OF_VALUE = 2, 3
_KINDS_IN_BUCKETS = {
    "quarter": QUARTERS,
    "sum": MEASURES,
    "bin": MEASURES,
    "sumby": MEASURES_BY_VALUE,
}


class Keys:
    """The names of all keys under one prefix. `day` is `YYYY-MM-DD`, `hour` is `YYYY-MM-DD:HH`,
    both UTC."""

    def __init__(self, prefix: str = "analytics:") -> None:
        self.prefix = prefix
        self.pending_flush = f"{prefix}pending_flush"
        self.batches = f"{prefix}batches"
        self.totals = f"{prefix}totals"
        self.inner = f"{prefix}inner"
        self.dead = f"{prefix}dead"
        self.access = f"{prefix}access"
        self.salt = f"{prefix}salt"
        self.viewer = f"{prefix}viewer:"
        self.sign_in = f"{prefix}sign_in:"
        self.limit = f"{prefix}limit"
        self.forgotten = f"{prefix}forgotten"
        self.removed_types = f"{prefix}types:removed"
        self.workers = f"{prefix}workers"
        self.beats = f"{prefix}beats"
        self.workers_discarding = f"{prefix}workers:discarding"
        self.history = f"{prefix}history"
        self.recount = f"{prefix}recount"
        self.events_sizes = f"{prefix}events:sizes"
        self.flush_requested = f"{prefix}flush_requested"
        self.requests = f"{prefix}requests"
        self.unacked = f"{prefix}unacked"
        self.unacked_index = f"{prefix}unacked_index"
        self.delayed = f"{prefix}delayed"
        self.jobs_unacked = f"{prefix}jobs:unacked"
        self.inflight = f"{prefix}inflight:"
        self.live = f"{prefix}live:"
        self.live_buckets = [f"{prefix}live:{bucket}" for bucket in range(ALL_BUCKETS)]
        self.seen_event = f"{prefix}seen:event_id:"
        self.seen_event_before = f"{prefix}seen:event:"
        self.seen_task = f"{prefix}seen:task:"

    def daily(self, event_type: str, day: str) -> str:
        return f"{self.prefix}counter:{escape(event_type)}:{day}"

    def hourly(self, event_type: str, hour: str) -> str:
        """Of the version before."""
        return f"{self.prefix}counter:{escape(event_type)}:{hour}"

    def quarterly(self, event_type: str, quarter: str) -> str:
        return f"{self.prefix}quarter:{escape(event_type)}:{quarter}"

    def names_of_hour(self, event_type: str, hour: str) -> list[str]:
        """Every counter of an hour: that of the version before, and those of its quarters."""
        quarters = [self.quarterly(event_type, f"{hour}:{minute}") for minute in _MINUTES]
        return [self.hourly(event_type, hour), *quarters]

    def sum(self, event_type: str, property_name: str, part: str, quarter: str) -> str:
        return f"{self.prefix}{sum_head(event_type, property_name)}:{part}:{quarter}"

    def bin(self, event_type: str, property_name: str, number: int, day: str) -> str:
        return f"{self.prefix}{bin_head(event_type, property_name)}:{number}:{day}"

    def value_sum(self, counter: ValueSumCounter) -> str:
        one = counter
        head = value_sum_head(one.event_type, one.property, one.by, one.value)
        return f"{self.prefix}{head}:{one.part}:{one.day}"

    def user(self, user_id: str, event_type: str, day: str) -> str:
        return f"{self.prefix}user:{escape(user_id)}:{escape(event_type)}:{day}"

    def value(self, event_type: str, property_name: str, value: str, day: str) -> str:
        return f"{self.prefix}dim:{value_field(event_type, property_name, value, day)[1]}"

    def journal_buckets(self, batch_id: str) -> list[str]:
        """The buckets of a batch, by their numbers; few of them may be there."""
        return [f"{self.inflight}{batch_id}:{bucket}" for bucket in range(ALL_BUCKETS)]

    def field_of(self, name: str) -> tuple[int, str] | None:
        """The bucket and the field of a counter; None for one that has a key of its own."""
        kind, _, field = name[len(self.prefix) :].partition(":")
        if kind == "user":
            return bucket_of(field.partition(":")[0]), field
        if kind == "dim":
            return bucket_of(field.rpartition(":")[0]), field
        if bucket := _KINDS_IN_BUCKETS.get(kind):
            return bucket, f"{kind}:{field}"
        return None

    def field_in_bucket(self, name: str) -> str:
        """The field of a counter that is known to have one."""
        field = name[len(self.prefix) :]
        kind, _, rest = field.partition(":")
        return field if kind in _KINDS_IN_BUCKETS else rest

    def name_of(self, field: str) -> str:
        """The name of the counter that a field of a bucket holds."""
        colons = field.count(":")
        if colons > _COLONS_OF_VALUE:
            return self.prefix + field
        kind = "user" if colons == _COLONS_OF_USER else "dim"
        return f"{self.prefix}{kind}:{field}"

    def gap(self, event_type: str, reason: str, hour: str) -> str:
        """The counter of events that were not logged."""
        return f"{self.prefix}gap:{escape(event_type)}:{reason}:{hour}"

    def events(self, partition: int) -> str:
        """A stream of the event log."""
        return f"{self.prefix}events:{partition}"

    def values(self, event_type: str, property_name: str, day: str) -> str:
        """The set of distinct values of a property on a day, or of all days long past, kept for the
        cap on their number."""
        return f"{self.prefix}values:{escape(event_type)}:{escape(property_name)}:{day}"

    def types(self, day: str) -> str:
        """The set of event types admitted to a day, kept for the cap on their number."""
        return f"{self.prefix}types:{day}"

    def lane(self, name: str) -> str:
        """The run under way in a lane."""
        return f"{self.prefix}lane:{name}"

    def producer(self, producer_id: str) -> str:
        """The last publish number taken from a producer."""
        return f"{self.prefix}producer:{producer_id}"

    def user_pattern(self, user_id: str) -> str:
        """A glob pattern that matches the name of every counter of one user, and nothing else."""
        return f"{match_literally(self.prefix)}user:{field_pattern(user_id)}"

    def parse(self, name: str) -> Counter:
        """What the counter `name` counts. Raises ValueError when it is no counter of ours."""
        if not name.startswith(self.prefix):
            raise ValueError(f"{name!r} is not under the prefix {self.prefix!r}")
        kind, *segments = name[len(self.prefix) :].split(":")
        # Nearly all names have nothing escaped in them, and nothing that is not allowed.
        read = str if "%" not in name and name.isprintable() else _unescape
        match kind, segments:
            case "counter", [event_type, day]:
                return DailyCounter(read(event_type), date.fromisoformat(day))
            case "gap", [event_type, "off" | "full" as reason, day, hour]:
                return GapCounter(read(event_type), reason, _hour(day, hour))
            case "user", [user_id, event_type, day]:
                return UserCounter(read(user_id), read(event_type), date.fromisoformat(day))
            case "dim", [type_, name_, value, day]:
                return ValueCounter(read(type_), read(name_), read(value), date.fromisoformat(day))
        return _parse_other(name, kind, [read(one) for one in segments])

    def is_counter(self, name: str) -> bool:
        """Whether `parse` can read it."""
        try:
            self.parse(name)
        except ValueError:
            return False
        return True


def value_field(event_type: str, property_name: str, value: str, day: str) -> tuple[int, str]:
    """The bucket and the field of a property's value."""
    head = f"{escape_again(event_type)}:{escape_again(property_name)}:{escape(value)}"
    return bucket_of(head), f"{head}:{day}"


def _parse_other(name: str, kind: str, segments: list[str]) -> Counter:
    match kind, segments:
        case "counter", [event_type, day, hour]:
            return HourlyCounter(event_type, _hour(day, hour))
        case "quarter", [event_type, *at]:
            return QuarterCounter(event_type, _quarter(*at))
        case "sum", [event_type, of, part, *at] if _PART.fullmatch(part):
            return SumCounter(event_type, of, part, _quarter(*at))
        case "bin", [event_type, of, number, day]:
            return BinCounter(event_type, of, int(number), date.fromisoformat(day))
        case "sumby", [event_type, of, by, value, part, day] if _PART.fullmatch(part):
            return ValueSumCounter(event_type, of, by, value, part, date.fromisoformat(day))
    raise ValueError(f"{name!r} is not the name of a counter")


def sum_head(event_type: str, property_name: str) -> str:
    """What the fields of the sums of a property begin with, up to the colon before the part."""
    return f"sum:{escape_again(event_type)}:{escape_again(property_name)}"


def bin_head(event_type: str, property_name: str) -> str:
    """The same of the bins of its numbers."""
    return f"bin:{escape_again(event_type)}:{escape_again(property_name)}"


def value_sum_head(event_type: str, property_name: str, by: str, value: str) -> str:
    """The same of the sums of the events with a value of another property."""
    names = map(escape_again, (event_type, property_name, by))
    return f"sumby:{':'.join(names)}:{escape(value)}"


def field_pattern(user_id: str) -> str:
    """A glob pattern that matches every field of one user in their bucket, and nothing else of
    users: those of values have a colon more."""
    return f"{match_literally(escape(user_id))}:*"


def match_literally(text: str) -> str:
    """A glob pattern that matches this text only."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)


def _hour(day: str, hour: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{hour}:00").replace(tzinfo=UTC)


def _quarter(*at: str) -> datetime:
    """The beginning of a quarter hour, given by day, hour and minute."""
    quarter = datetime.strptime(":".join(at), "%Y-%m-%d:%H:%M").replace(tzinfo=UTC)
    if quarter_text(quarter) != ":".join(at):
        raise ValueError(f"no quarter hour begins at {':'.join(at)}")
    return quarter


def _unescape(segment: str) -> str:
    text = unquote(segment, errors="strict")
    text.encode()  # raises when the key was not UTF-8
    if "\x00" in text:
        raise ValueError("a NUL character is in no name of ours")
    return text
