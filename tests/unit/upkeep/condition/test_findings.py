"""The sentence about the pipeline in each outage, and in several at once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pipeline.upkeep.condition.findings import (
    ALL_ACCOUNTED_FOR,
    UNFIT,
    Finding,
    explain_outage,
    find_faults,
    find_risks,
    summarise,
)

WELL = {
    "queue_depth": 3,
    "pending_counters": 12,
    "dead_letters": 0,
    "warnings": [],
    "silence_s": {"events": 2, "flush": 3, "beat": 4},
    "went_back": False,
}
BOOKS = {
    "published": 10,
    "consumed": 10,
    "counted": 7,
    "duplicate": 1,
    "dead": 1,
    "forgotten": 1,
    "expired": 0,
    "missing_messages": 0,
    "audit_drift": 0,
    "balanced": True,
}
LATE = "flush is 400 s behind: see whether a flush worker runs (`analytics worker flush`)"
OUTAGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "missing": (
        {},
        {"missing_messages": 2, "balanced": False},
        "2 messages are missing: published, and neither counted nor waiting.",
    ),
    "without outcome": (
        {},
        {"consumed": 11, "balanced": False},
        "The books differ by 1 event: 11 were taken from the queue, and 10 have an outcome.",
    ),
    "a type": ({}, {"balanced": False}, "The books of an event type do not balance."),
    "drift": (
        {},
        {"audit_drift": 1_200},
        "The last audit found that archive and counters differ by 1,200 events.",
    ),
    "changed counters": (
        {"recount": {"differences": 3, "lines": ["users of a on 2026-03-01", "hours of a on …"]}},
        {},
        "3 counters differ from the events that were counted: users of a on 2026-03-01, and 1 "
        "more.",
    ),
    "went back": (
        {"went_back": True},
        {},
        "Redis is older than what Postgres has stored: it was restored, and flushes stand still, "
        "since they might count twice.",
    ),
    "no postgres": (
        {"postgres": "does not answer"},
        {},
        "Postgres does not answer: events are counted, and nothing is stored or archived.",
    ),
    "unfit postgres": (
        {"postgres": UNFIT},
        {},
        "Postgres cannot be used: its tables are of another version, or those of another "
        "installation. Events are counted, and nothing is stored.",
    ),
    "no event worker": (
        {"silence_s": {"events": 46, "flush": 1, "beat": 2}},
        {},
        "No event worker was seen for 45 s: 3 messages wait to be counted.",
    ),
    "no flush worker": (
        {"silence_s": {"events": 1, "beat": 2}},
        {},
        "No flush worker was seen for 45 s: 12 counters wait in Redis to be stored.",
    ),
    "redis full": (
        {"refusal": "full"},
        {},
        "Redis is full: new events are refused, and their senders try again.",
    ),
    "no disk": (
        {"refusal": "disk"},
        {},
        "Redis cannot write to its disk: no event is taken or counted, and senders try again.",
    ),
    "replica": (
        {"refusal": "read-only"},
        {},
        "Redis is a replica: no event is taken or counted, and senders try again.",
    ),
    "other refusal": (
        {"refusal": "NOREPLICAS Not enough good replicas to write."},
        {},
        "Redis refuses new events, and their senders try again.",
    ),
    "silent event worker": (
        {"silence_s": {"events": 16, "flush": 1, "beat": 2}},
        {},
        "The event worker was last seen 16 s ago, and 3 messages wait to be counted.",
    ),
    "silent beat": (
        {"silence_s": {"events": 2, "flush": 3, "beat": 46}},
        {},
        "No beat was seen for 45 s: flush workers ask for what is overdue in its stead.",
    ),
    "late": ({"warnings": [LATE]}, {}, "Flush is 400 s behind."),
    "redis nearly full": (
        {"redis_memory": (93, 100)},
        {},
        "Redis uses 93% of its memory: when it is full, new events are refused.",
    ),
    "growing queue": (
        {"backlog": (2, 3)},
        {},
        "The queue grows: 3 messages wait, 1 more than a minute ago.",
    ),
    "no partitions": (
        {"partitions_ahead_s": {"events": 100_000, "other": 200_000}},
        {},
        "Postgres has no partitions for the day after tomorrow in events.",
    ),
    "dead letters": (
        {"dead_letters": 1},
        {},
        "1 dead letter waits: what could not be counted, kept as it came.",
    ),
    "doubt": (
        {"redis": "appendonly is no: set it to yes"},
        {},
        "It is not certain that Redis keeps what it acknowledges.",
    ),
}
_NOT_AT_ONCE = (
    {"no postgres", "unfit postgres"},
    *({"silent event worker", f"no {kind} worker"} for kind in ("event", "flush")),
    # Each of these says for how long each kind was silent.
    *map(set, itertools.combinations(("no event worker", "no flush worker", "silent beat"), 2)),
    {"silent event worker", "silent beat"},
    *map(set, itertools.combinations(("redis full", "no disk", "replica", "other refusal"), 2)),
    *({"redis nearly full", other} for other in ("redis full", "no disk", "replica")),
    {"redis nearly full", "other refusal"},
    # Books that do not balance are said to be so once.
    *({"a type", other} for other in ("missing", "without outcome")),
)
PAIRS = [pair for pair in itertools.combinations(OUTAGES, 2) if set(pair) not in _NOT_AT_ONCE]


def status_of(*names: str) -> dict[str, Any]:
    status: dict[str, Any] = dict(WELL)
    books: dict[str, Any] = dict(BOOKS)
    for name in names:
        status |= OUTAGES[name][0]
        books |= OUTAGES[name][1]
    return {**status, "books": books}


def test_while_all_is_well_the_sentence_says_so() -> None:
    assert find_faults(status_of()) == []
    assert summarise([]) == ALL_ACCOUNTED_FOR == "All events are accounted for."


@pytest.mark.parametrize("name", OUTAGES)
def test_each_outage_has_its_sentence_and_what_to_do(name: str) -> None:
    [found] = find_faults(status_of(name))
    assert summarise([found]) == found.what == OUTAGES[name][2]
    assert found.remedy.endswith(".")
    assert not found.remedy[0].islower()


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_outages_are_both_named_and_the_graver_comes_first(one: str, other: str) -> None:
    found = find_faults(status_of(one, other))
    assert {fault.what for fault in found} == {OUTAGES[one][2], OUTAGES[other][2]}
    order = {"lost": 0, "stopped": 1, "late": 2}
    gravities = [order[fault.gravity] for fault in found]
    assert gravities == sorted(gravities)


def test_a_worker_that_would_discard_events_is_a_risk_and_no_fault() -> None:
    assert find_risks([]) == []
    [found] = find_risks(["shop@here"])
    assert (found.gravity, found.what) == (
        "possible",
        "shop@here of another application listens on Celery's default queue, celery, and would "
        "discard events that a client sends without a queue.",
    )


def test_of_many_discarding_workers_a_few_are_named() -> None:
    names = [f"shop{number}@here" for number in range(1_007)]
    [found] = find_risks(names)
    assert found.what.startswith("shop0@here, shop1@here, shop2@here, shop3@here, shop4@here and ")
    assert "and 1,002 more of another application listen on Celery's" in found.what


def test_a_worker_never_seen_is_as_one_seen_long_ago() -> None:
    found = find_faults({**status_of(), "silence_s": {}})
    assert [one.what.split(" was")[0] for one in found] == [
        "No event worker",
        "No flush worker",
        "No beat",
    ]


def test_what_a_status_does_not_say_is_not_judged() -> None:
    status = status_of()
    del status["silence_s"], status["went_back"]
    assert find_faults(status) == []


@pytest.mark.parametrize("backlog", [None, (3, 3), (2, 4)])
def test_a_queue_that_is_short_or_is_being_worked_off_does_not_grow(backlog: object) -> None:
    assert find_faults({**status_of(), "backlog": backlog}) == []


def test_messages_of_other_producers_are_not_missing() -> None:
    status = status_of()
    status["books"]["missing_messages"] = -5
    assert find_faults(status) == []


def test_a_worker_that_is_silent_while_nothing_waits_is_not_worth_a_word() -> None:
    status = {**status_of("silent event worker"), "queue_depth": 0}
    assert find_faults(status) == []
    away = {**status_of("no event worker"), "queue_depth": 0, "pending_counters": 0}
    assert summarise(find_faults(away)).endswith("for 45 s: what comes will wait.")
    away["silence_s"] = {"events": 1, "beat": 2}
    assert summarise(find_faults(away)).endswith("what is counted will wait in Redis.")


@pytest.mark.parametrize("server", ["Redis", "Postgres", "The broker"])
def test_an_outage_is_explained_without_a_status(server: str) -> None:
    found = explain_outage(server[0].lower() + server[1:] if " " in server else server)
    assert isinstance(found, Finding)
    assert found.what.startswith(f"{server} does not answer: ")
    assert "Start it" in found.remedy


@pytest.mark.parametrize("said", ["Redis cannot be used now", "Redis or Postgres is busy"])
def test_a_server_that_answers_and_cannot_be_used_is_not_to_be_started(said: str) -> None:
    found = explain_outage(said)
    assert found.what.startswith("Redis cannot be used now: ")
    assert "Start it" not in found.remedy
