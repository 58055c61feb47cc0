"""Log lines say of which task and which batch they are, and never of which user."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from pipeline.contract import FLUSH_COUNTERS
from pipeline.counting.batch import BadEvent
from pipeline.errors import BatchesLeft
from pipeline.producer.runs import ask_for_run
from pipeline.services import Services
from tests.helpers.support import Workers, count_events, event, eventually, execute, message

USER = "jane.doe@example.org"


def test_a_line_of_a_flush_has_the_ids_of_its_task_and_its_batch(
    services: Services, workers: Workers, sending: None
) -> None:
    count_events(services, event(user_id=USER))
    workers.environment |= {"ANALYTICS_LOG_FORMAT": "json", "ANALYTICS_LOG_LEVEL": "DEBUG"}
    worker = workers.start("flush")
    ask_for_run(FLUSH_COUNTERS, "analytics.flush")
    eventually(lambda: "flushed " in worker.said())

    lines = [json.loads(line) for line in worker.said().splitlines() if line.startswith("{")]
    [flushed] = [one for one in lines if one["message"].startswith("flushed ")]
    [stored] = [one for one in lines if one["message"].startswith("stored a batch of ")]
    assert flushed["task"] == FLUSH_COUNTERS
    assert len(flushed["task_id"]) == 36
    batches = [row[0] for row in execute(services, "SELECT batch_id FROM flush_batches")]
    assert [stored["batch_id"]] == batches
    assert USER not in worker.said()


def test_no_line_names_a_user_whose_rows_postgres_refuses(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    for table in ("analytics_user_daily", "events"):
        execute(services, f"ALTER TABLE {table} ADD CHECK (user_id <> '{USER}') NOT VALID")
    bad = [BadEvent(json.dumps({"event_type": "", "user_id": USER}).encode(), "event_type: …")]
    services.counters.apply([message(event(user_id=USER), bad=bad)], datetime.now(UTC))
    with caplog.at_level(logging.DEBUG, "pipeline"):
        for _ in range(12):
            services.archive_events()
        services.flush()
        services.move_dead_letters()
    assert "violates check constraint" in caplog.text
    assert USER not in caplog.text


def test_a_batch_that_is_set_aside_is_named_and_its_rows_are_not(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    count_events(services, event(user_id=USER))
    services.claims.claim("b1", 1_000, (0, 0))
    execute(
        services,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'not now' USING DETAIL = NEW.user_id; END $$",
    )
    execute(
        services,
        "CREATE TRIGGER refuse BEFORE INSERT ON analytics_user_daily "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with caplog.at_level(logging.DEBUG, "pipeline"), pytest.raises(BatchesLeft) as raised:
        services.flush()
    [record] = [one for one in caplog.records if "is set aside" in one.getMessage()]
    assert record.batch_id == "b1"  # type: ignore[attr-defined]
    assert "not now" in record.getMessage()
    assert USER not in caplog.text + str(raised.value)
