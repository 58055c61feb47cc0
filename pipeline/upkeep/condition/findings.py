"""What is wrong with the pipeline, in sentences, and what to do. Pure: all of it is in the status.

The gravest comes first: what may be lost, then what stands still, then what is late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.contract import CELERYS_DEFAULT_QUEUE
from pipeline.counting.batch import OUTCOMES
from pipeline.upkeep.condition.room import DISK, FULL, READ_ONLY
from pipeline.upkeep.heartbeats import SEEN_WITHIN_S

ALL_ACCOUNTED_FOR = "All events are accounted for."
UNFIT = "cannot be used"
"""What a status says of a Postgres that answers and does not fit."""
_MOST_NAMED = 5
SUSPICIOUS_S = 15
"""A worker says every five seconds that it lives: one that missed it three times may be gone."""
_BROKER = "The broker", "broker_away"
_MUCH_MEMORY = 0.9
_FEW_PARTITIONS_S = 2 * 86_400
_STILL_GROWS = 0.9
"""A queue of less than this share of its newest sample is being worked off."""
Gravity = Literal["lost", "stopped", "late", "possible"]
Status = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: a sentence, and one that says what to do."""

    gravity: Gravity
    """"lost": events may be; "stopped": they are safe, and wait; "late": they are, or it is;
    "possible": nothing is wrong yet, see `find_risks`."""
    what: str
    remedy: str
    alarm: str = ""
    """The alarm that it raises, of `pipeline.upkeep.condition.alarms`; empty for none."""


def find_faults(status: Status) -> list[Finding]:
    """What is wrong, the gravest first; nothing while all is well.

    `status` is what `Services.status` returns, and what `read_facts` does: `silence_s`, for how
    long each kind of worker was not seen, `refusal`, why Redis takes no events, and `went_back`,
    whether Redis is older than what Postgres has; `redis_memory`, used and at most, in bytes, and
    `backlog`, how many messages waited a minute ago and in the newest sample, where the queue has
    been long since; `recount`, what that found; and, of what `StateReader` reads,
    `partitions_ahead_s`. What is not there is not judged.
    """
    return [
        *_find_losses(status),
        *_find_what_differs(status),
        *_find_what_went_back(status),
        *_find_refusals(status),
        *_find_outages(status),
        *_find_absent_workers(status),
        *_find_silent_workers(status),
        *_find_silent_beat(status),
        *_find_lateness(status),
        *_find_what_fills(status),
        *_find_dead_letters(status),
        *_find_doubts(status),
    ]


def summarise(faults: list[Finding]) -> str:
    """One sentence for all: "All events are accounted for.", or the gravest that is wrong."""
    return faults[0].what if faults else ALL_ACCOUNTED_FOR


def explain_outage(said: str) -> Finding:
    """What it means that a server is away; `said` is the message of `Unavailable`, which begins
    with its name."""
    if said.startswith("Postgres"):
        return Finding(
            "stopped",
            "Postgres does not answer: events are counted, and nothing is stored or archived.",
            "Start it, or correct ANALYTICS_POSTGRES_URL. Counts wait in Redis meanwhile, and the "
            "next flush stores them.",
            "postgres_away",
        )
    server, alarm = ("Redis", "redis_away") if said.startswith("Redis") else _BROKER
    if "cannot be used" in said or "is busy" in said:
        return Finding(
            "stopped",
            f"{server} cannot be used now: nothing is taken or counted, and senders try again.",
            "It may be starting, which ends by itself. Else the log of the web server says what "
            "is wrong.",
            alarm,
        )
    return Finding(
        "stopped",
        f"{server} does not answer: nothing is taken or counted, and senders try again.",
        "Start it, or correct ANALYTICS_REDIS_URL (ANALYTICS_BROKER_URL where that is set). What "
        "it has acknowledged it has kept.",
        alarm,
    )


def _find_losses(status: Status) -> Iterator[Finding]:
    books = status["books"]
    if (missing := books["missing_messages"]) > 0:
        yield Finding(
            "lost",
            f"{_count(missing, 'message')} missing: published, and neither counted nor waiting.",
            "See whether another program takes messages from the events queue, and whether Redis "
            "lost what it had acknowledged (its log says so). `analytics audit` says which hours "
            "differ.",
            "books_off",
        )
    outcomes = sum(books[outcome] for outcome in OUTCOMES)
    if (without := books["consumed"] - outcomes) != 0:
        yield Finding(
            "lost",
            f"The books differ by {_count(abs(without), 'event', verb=False)}: "
            f"{books['consumed']:,} were taken from the queue, and {outcomes:,} have an outcome.",
            "Compare the counts with the archive: `analytics audit`.",
            "books_off",
        )
    elif not books["balanced"] and missing <= 0:
        yield Finding(
            "lost",
            "The books of an event type do not balance.",
            "`analytics status --json` has them by type; compare with the archive: "
            "`analytics audit`.",
            "books_off",
        )
    if drift := books["audit_drift"]:
        yield Finding(
            "lost",
            f"The last audit found that archive and counters differ by "
            f"{_count(drift, 'event', verb=False)}.",
            "`analytics audit` says where, and `analytics rebuild` counts those days again from "
            "the archive.",
            "audit_off",
        )


def _find_what_differs(status: Status) -> Iterator[Finding]:
    found = status.get("recount", {"lines": ()})
    if lines := found["lines"]:
        named = f"{lines[0]}{f', and {len(lines) - 1:,} more' if len(lines) > 1 else ''}"
        yield Finding(
            "lost",
            f"{_count(found['differences'], 'counter', 'differ')} from the events that were "
            f"counted: {named}.",
            "Another program has changed them, in Redis or in Postgres: put them back, or count a "
            "day that is over again from the archive (`analytics rebuild`).",
            "audit_off",
        )


def _find_what_went_back(status: Status) -> Iterator[Finding]:
    if status.get("went_back"):
        yield Finding(
            "lost",
            "Redis is older than what Postgres has stored: it was restored, and flushes stand "
            "still, since they might count twice.",
            "Compare the counts, then run `analytics accept-redis-state` to go on.",
            "redis_went_back",
        )


_REFUSALS = {
    FULL: Finding(
        "stopped",
        "Redis is full: new events are refused, and their senders try again.",
        "What it has taken is counted and stored, which makes room: see that event and flush "
        "workers run. Where they do, raise its maxmemory.",
        "redis_refuses",
    ),
    DISK: Finding(
        "stopped",
        "Redis cannot write to its disk: no event is taken or counted, and senders try again.",
        "Make room on its disk, or mend it; the log of Redis says what is wrong.",
        "redis_refuses",
    ),
    READ_ONLY: Finding(
        "stopped",
        "Redis is a replica: no event is taken or counted, and senders try again.",
        "Give the address of its primary (ANALYTICS_REDIS_URL), or make this one the primary.",
        "redis_refuses",
    ),
}


def _find_refusals(status: Status) -> Iterator[Finding]:
    if said := status.get("refusal"):
        yield _REFUSALS.get(said) or Finding(
            "stopped",
            "Redis refuses new events, and their senders try again.",
            f"It says: {_capitalise(said)}.",
            "redis_refuses",
        )


def _find_outages(status: Status) -> Iterator[Finding]:
    if status.get("postgres") == UNFIT:
        yield Finding(
            "stopped",
            "Postgres cannot be used: its tables are of another version, or those of another "
            "installation. Events are counted, and nothing is stored.",
            "The log of the web server says which; `analytics migrate` brings tables up to date.",
            "postgres_unfit",
        )
    elif "postgres" in status:
        yield explain_outage("Postgres")


def _find_absent_workers(status: Status) -> Iterator[Finding]:
    silence_s = status.get("silence_s")
    if silence_s is None:
        return
    if silence_s.get("events", SEEN_WITHIN_S + 1) > SEEN_WITHIN_S:
        waiting = status["queue_depth"]
        what = (
            f"{_count(waiting, 'message', 'wait')} to be counted"
            if waiting
            else ("what comes will wait")
        )
        yield Finding(
            "stopped",
            f"No event worker was seen for {SEEN_WITHIN_S} s: {what}.",
            "Start one: `analytics worker events`.",
            "no_event_worker",
        )
    if silence_s.get("flush", SEEN_WITHIN_S + 1) > SEEN_WITHIN_S:
        pending = status["pending_counters"]
        what = (
            f"{_count(pending, 'counter', 'wait')} in Redis to be stored"
            if pending
            else ("what is counted will wait in Redis")
        )
        yield Finding(
            "stopped",
            f"No flush worker was seen for {SEEN_WITHIN_S} s: {what}.",
            "Start one: `analytics worker flush`.",
            "no_flush_worker",
        )


def _find_silent_workers(status: Status) -> Iterator[Finding]:
    silent_s = status.get("silence_s", {}).get("events", 0)
    if SUSPICIOUS_S < silent_s <= SEEN_WITHIN_S and (waiting := status["queue_depth"]):
        yield Finding(
            "late",
            f"The event worker was last seen {silent_s} s ago, and "
            f"{_count(waiting, 'message', 'wait')} to be counted.",
            "It may be starting, or ending; else see what its log says, or start another: "
            "`analytics worker events`.",
        )


def _find_silent_beat(status: Status) -> Iterator[Finding]:
    silence_s = status.get("silence_s")
    if silence_s is not None and silence_s.get("beat", SEEN_WITHIN_S + 1) > SEEN_WITHIN_S:
        yield Finding(
            "late",
            f"No beat was seen for {SEEN_WITHIN_S} s: flush workers ask for what is overdue in its "
            "stead.",
            "Start it: `analytics beat`.",
            "beat_silent",
        )


_LATE = {
    "flush is ": "counters_waiting",
    "flush has not ": "counters_waiting",
    "flush ": "flush_late",
    "archive ": "archive_late",
    "maintenance ": "maintenance_late",
    "event log ": "event_log_full",
}
"""How a warning begins, and the alarm that it raises: the first that fits."""


def _find_lateness(status: Status) -> Iterator[Finding]:
    # A worker that missed some heartbeats may be gone: soon that is known, and explains it.
    is_judged = status.get("silence_s", {}).get("flush", 0) <= SUSPICIOUS_S
    # Each is a line "flush is 300 s behind: what to do".
    for warning in status["warnings"]:
        what, _, remedy = warning.partition(": ")
        alarm = next((alarm for begin, alarm in _LATE.items() if what.startswith(begin)), "")
        alarm = alarm if is_judged else ""
        yield Finding("late", f"{_capitalise(what)}.", f"{_capitalise(remedy)}.", alarm)


def _find_what_fills(status: Status) -> Iterator[Finding]:
    used, most = status.get("redis_memory", (0, 0))
    if most and used > _MUCH_MEMORY * most and not status.get("refusal"):
        yield Finding(
            "late",
            f"Redis uses {min(1, used / most):.0%} of its memory: when it is full, new events are "
            "refused.",
            "See whether event and flush workers keep up; where they do, raise its maxmemory.",
            "redis_nearly_full",
        )
    depth = status["queue_depth"]
    before, newest = status.get("backlog") or (depth, depth)
    if depth > before and depth > _STILL_GROWS * newest:
        yield Finding(
            "late",
            f"The queue grows: {_count(depth, 'message', 'wait')}, {depth - before:,} more "
            "than a minute ago.",
            "Start more event workers (`analytics worker events`), or see why those that run are "
            "slow.",
            "queue_growing",
        )
    ahead_s: Mapping[str, float] = status.get("partitions_ahead_s", {})
    if missing := sorted(name for name, time_s in ahead_s.items() if time_s < _FEW_PARTITIONS_S):
        yield Finding(
            "late",
            f"Postgres has no partitions for the day after tomorrow in {', '.join(missing)}.",
            "Maintenance makes them every hour: the log of the flush worker says why it does not.",
            "partitions_missing",
        )


def _find_dead_letters(status: Status) -> Iterator[Finding]:
    if letters := status["dead_letters"]:
        yield Finding(
            "late",
            f"{_count(letters, 'dead letter', 'wait')}: what could not be counted, kept as it "
            "came.",
            "Replay or drop them (`analytics dead-letters`).",
            "dead_letters",
        )


def _find_doubts(status: Status) -> Iterator[Finding]:
    if doubt := status.get("redis"):
        yield Finding(
            "late",
            "It is not certain that Redis keeps what it acknowledges.",
            f"{_capitalise(doubt)}.",
            "redis_not_durable",
        )


def find_risks(discarding_workers: Sequence[str]) -> list[Finding]:
    """What may go wrong, and is no fault: these workers of other applications are there, and no
    client may ever send them an event."""
    return [_explain_discarding(discarding_workers)] if discarding_workers else []


def _explain_discarding(workers: Sequence[str]) -> Finding:
    named = ", ".join(workers[:_MOST_NAMED])
    if (more := len(workers) - _MOST_NAMED) > 0:
        named += f" and {more:,} more"
    listen = "listens" if len(workers) == 1 else "listen"
    return Finding(
        "possible",
        f"{named} of another application {listen} on Celery's default queue, "
        f"{CELERYS_DEFAULT_QUEUE}, and would discard events that a client sends without a queue.",
        "Have clients name the events queue (task_routes), or load our tasks in that worker "
        "(imports): see docs/guides/sending/celery.md.",
    )


def _count(number: int, what: str, plural_verb: str = "are", *, verb: bool = True) -> str:
    """`1 message is`, `2 messages are`, `2 messages wait`, or without the verb."""
    text = f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
    if not verb:
        return text
    singular = "is" if plural_verb == "are" else f"{plural_verb}s"
    return f"{text} {singular if number == 1 else plural_verb}"


def _capitalise(text: str) -> str:
    text = text.rstrip(".")
    return f"{text[:1].upper()}{text[1:]}"
