"""Dead letters are moved once, listed, replayed so that a repeat does no harm, and dropped."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from pipeline.cli.commands.dead_letters import _publish
from pipeline.counting.batch import Applied, BadEvent, read_delivery
from pipeline.errors import PipelineError
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from pipeline.upkeep.dead_letters import DeadLetter
from tasks.consumer.messages import read_message
from tests.helpers.support import counted_here, event, eventually, execute, fetch, message

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


class Crash(BaseException):
    """The process ends here."""


def bury(services: Services, *bad: BadEvent) -> None:
    services.counters.apply([message(bad=bad)], datetime.now(UTC))


def moved(services: Services, *bad: BadEvent) -> list[DeadLetter]:
    """Dead letters in Postgres, in the order in which they came."""
    bury(services, *bad)
    services.move_dead_letters()
    return sorted(dead_letters.list_stored(services.engine), key=lambda letter: letter.id)


def test_a_bad_event_is_kept_as_it_came_with_the_reason(services: Services) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    items = [{"event_type": "a"}, {"event_type": "", "user_id": "\ud800é"}]
    delivery = read_delivery(items, datetime.now(UTC), task_id="t")
    assert services.counters.apply([delivery], datetime.now(UTC)) == Applied(
        counted=1, dead=1, pending=2
    )
    assert services.move_dead_letters() == 1
    [letter] = dead_letters.list_stored(services.engine)
    assert letter.kind == "event"
    assert letter.body == b'{"event_type": "", "user_id": "\\ud800\\u00e9"}'
    assert letter.reason == "event_type: must have 1 to 200 characters; this has 0 (got '')"
    assert before <= letter.created_at <= datetime.now(UTC)
    assert letter.replayed_at is None


def test_any_bytes_and_any_reason_can_be_kept(services: Services) -> None:
    bodies = [b"\xff\xfe\x00", b"", b"x" * 2_000_000]
    reason = "a\x00b \N{PARTY POPPER} 'quoted'"
    letters = moved(services, *[BadEvent(body, reason, kind="message") for body in bodies])
    assert [letter.body for letter in letters] == bodies
    assert {letter.reason for letter in letters} == {"a\ufffdb \N{PARTY POPPER} 'quoted'"}


def test_a_counter_that_was_set_apart_keeps_its_name_and_its_count(services: Services) -> None:
    name = services.keys.daily("page_view", "2025-03-14")
    services.redis.sadd(name, "somebody else's")
    services.counters.apply([message(event(), event())], datetime.now(UTC))
    services.redis.delete(name)
    services.move_dead_letters()
    [letter] = dead_letters.list_stored(services.engine)
    assert (letter.kind, letter.body) == ("counter", f"{name} 2".encode())


def test_thousands_are_moved_in_pages_and_leave_redis(services: Services) -> None:
    bury(services, *[BadEvent(b"%d" % n, "reason") for n in range(1_200)])
    assert dead_letters.count_waiting(services.redis, services.keys) == 1_200
    assert services.move_dead_letters() == 1_200
    assert dead_letters.count_waiting(services.redis, services.keys) == 0
    assert dead_letters.count_stored(services.engine) == 1_200
    assert services.move_dead_letters() == 0


def test_a_move_that_crashed_before_redis_forgot_them_stores_each_once(
    services: Services,
) -> None:
    bury(services, BadEvent(b"1", "reason"), BadEvent(b"2", "reason"))
    entries = services.redis.xrange(services.keys.dead)
    services.move_dead_letters()
    for entry_id, fields in entries:  # as if they had not been deleted
        services.redis.execute_command(
            "XADD", "copy", entry_id, *[part for pair in fields.items() for part in pair]
        )
    services.redis.rename("copy", services.keys.dead)
    bury(services, BadEvent(b"3", "reason"))
    assert services.move_dead_letters() == 3
    assert sorted(one.body for one in dead_letters.list_stored(services.engine)) == [
        b"1",
        b"2",
        b"3",
    ]


def test_the_newest_are_listed_first_and_no_more_than_asked_for(services: Services) -> None:
    for n in range(3):
        bury(services, BadEvent(b"%d" % n, "reason"))
    services.move_dead_letters()
    with services.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE dead_letters SET created_at = created_at - "
            "(2 - convert_from(body, 'UTF8')::int) * interval '1 minute'"
        )
    assert [one.body for one in dead_letters.list_stored(services.engine, limit=2)] == [b"2", b"1"]


def test_a_replay_hands_each_letter_over_and_notes_it(services: Services) -> None:
    letters = moved(services, *[BadEvent(b"%d" % n, "reason") for n in range(3)])
    published: list[DeadLetter] = []
    ids = [letters[2].id, letters[0].id]
    assert dead_letters.replay(services.engine, ids, published.append) == 2
    assert published == [letters[2], letters[0]]
    replayed = {one.id for one in dead_letters.list_stored(services.engine) if one.replayed_at}
    assert replayed == set(ids)
    assert dead_letters.count_stored(services.engine) == 1


def test_a_replay_that_fails_has_noted_what_was_sent_and_nothing_else(services: Services) -> None:
    letters = moved(services, *[BadEvent(b"%d" % n, "reason") for n in range(3)])

    def publish(letter: DeadLetter) -> None:
        if letter.body == b"1":
            raise Crash

    with pytest.raises(Crash):
        dead_letters.replay(services.engine, [one.id for one in letters], publish)
    found = dead_letters.find(services.engine, [one.id for one in letters])
    assert [one.replayed_at is not None for one in found] == [True, False, False]


def test_a_repeat_replays_nothing(services: Services) -> None:
    [letter] = moved(services, BadEvent(b"1", "reason"))
    published: list[DeadLetter] = []
    assert dead_letters.replay(services.engine, [letter.id, letter.id], published.append) == 1
    assert dead_letters.replay(services.engine, [letter.id], published.append) == 0
    assert published == [letter]


def test_of_two_replays_at_once_one_sends(services: Services) -> None:
    [letter] = moved(services, BadEvent(b"1", "reason"))
    published: list[DeadLetter] = []
    with ThreadPoolExecutor(1) as pool:
        others = []

        def publish(one: DeadLetter) -> None:
            replay = dead_letters.replay
            others.append(pool.submit(replay, services.engine, [one.id], published.append))
            eventually(lambda: execute(services, _WAITING)[0][0])
            published.append(one)

        assert dead_letters.replay(services.engine, [letter.id], publish) == 1
        assert others[0].result() == 0
    assert published == [letter]


def test_an_unknown_id_is_named_and_then_nothing_is_replayed(services: Services) -> None:
    [letter] = moved(services, BadEvent(b"1", "reason"))
    published: list[DeadLetter] = []
    with pytest.raises(PipelineError, match="there is no dead letter 'nowhere'"):
        dead_letters.replay(services.engine, [letter.id, "nowhere"], published.append)
    assert published == []


def test_dropped_letters_are_gone(services: Services) -> None:
    letters = moved(services, BadEvent(b"1", "reason"), BadEvent(b"2", "reason"))
    assert dead_letters.drop(services.engine, [letters[0].id, "nowhere"]) == 1
    assert dead_letters.drop(services.engine, [letters[0].id]) == 0
    assert [one.body for one in dead_letters.list_stored(services.engine)] == [b"2"]


def test_the_status_counts_those_in_redis_and_those_in_postgres(services: Services) -> None:
    moved(services, BadEvent(b"1", "reason"))
    bury(services, BadEvent(b"2", "reason"))
    status = services.status()
    assert status["dead_letters"] == 2
    assert status["books"]["dead"] == status["books"]["consumed"] == 2
    assert status["books"]["balanced"] is True


# What a replay sends


def replay_by_hand(services: Services, *items: dict[str, object]) -> dict[str, int]:
    """Dead letters that are events after all, beside those that are there already, replayed twice,
    since the first time was not noted; and what is then counted."""
    letters = moved(services, *[BadEvent(json.dumps(item).encode(), "reason") for item in items])
    ids = [one.id for one in letters]
    assert dead_letters.replay(services.engine, ids, _publish) == len(ids)
    execute(services, "UPDATE dead_letters SET replayed_at = NULL")
    assert dead_letters.replay(services.engine, ids, _publish) == len(ids)
    now = datetime.now(UTC)
    reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
    services.counters.apply([read.delivery for read in reads if read], now)
    return counted_here(services.redis)


def test_a_replayed_event_keeps_its_source_and_its_id(services: Services, sending: None) -> None:
    """So it counts once, whichever of its copies were counted and which became dead letters."""
    page = {"event_type": "sale", "event_id": "k", "source": "page"}
    server = {"event_type": "sale", "event_id": "k"}
    delivery = read_delivery([{**page, "event_id": "counted"}], datetime.now(UTC), task_id="t")
    services.counters.apply([delivery], datetime.now(UTC))

    found = replay_by_hand(services, page, page, server, {**page, "event_id": "counted"})

    assert found == {"sale": 3}


def test_a_replayed_event_without_an_id_or_with_a_bad_one_gets_the_letters(
    services: Services, sending: None
) -> None:
    bad = [{"event_type": "sale"}, {"event_type": "sale"}, {"event_type": "sale", "event_id": ""}]
    assert replay_by_hand(services, *bad) == {"sale": 3}


def test_no_page_can_use_up_the_id_of_a_replay(services: Services, sending: None) -> None:
    page: dict[str, object] = {"event_type": "sale", "source": "page"}
    [letter] = moved(services, BadEvent(json.dumps(page).encode(), "reason"))
    forged = [{**page, "event_id": f"dead-letter:{letter.id}"}]
    services.counters.apply([read_delivery(forged, datetime.now(UTC))], datetime.now(UTC))

    assert replay_by_hand(services) == {"sale": 2}
