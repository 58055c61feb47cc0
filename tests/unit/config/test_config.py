"""Celery's options, the schedule and the log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from ssl import TLSVersion

import pytest
from celery import Celery
from kombu.transport import redis

from config import logging as log_setup
from config.celery import celery_config
from config.schedule import beat_schedule, intervals_s
from config.settings import Settings
from pipeline.contract import EVENTS_QUEUE, FLUSH_QUEUE, MAINTENANCE_QUEUE
from pipeline.redis.client import redis_client

URL = "redis://:secret@redis:6379/3"


def configured(url: str = URL, **chosen: object) -> Celery:
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_config(Settings(**chosen), url))
    return app


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("analytics.track_event", EVENTS_QUEUE),
        ("analytics.track_events", EVENTS_QUEUE),
        ("analytics.flush_counters", FLUSH_QUEUE),
        ("analytics.archive_events", FLUSH_QUEUE),
        ("analytics.maintain", MAINTENANCE_QUEUE),
        ("analytics.move_dead_letters", MAINTENANCE_QUEUE),
        ("analytics.added_later", MAINTENANCE_QUEUE),
    ],
)
def test_every_task_is_routed_to_the_queue_of_the_contract(task: str, queue: str) -> None:
    assert configured().amqp.router.route({}, task)["queue"].name == queue


def test_a_message_goes_straight_to_its_queue_without_an_exchange() -> None:
    queues = configured().amqp.queues
    assert sorted(queues) == [EVENTS_QUEUE, FLUSH_QUEUE, MAINTENANCE_QUEUE]
    for name, queue in queues.items():
        assert (queue.exchange.name, queue.routing_key) == ("", name)


def test_a_queue_nobody_declared_cannot_be_consumed() -> None:
    with pytest.raises(KeyError):
        configured().amqp.queues.select(["analytics.event"])


def test_only_json_is_accepted_and_no_result_is_kept() -> None:
    conf = configured().conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.result_backend is None
    assert conf.task_ignore_result is True


def test_a_task_is_acknowledged_when_done_and_returned_when_its_worker_dies() -> None:
    conf = configured().conf
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is True
    assert conf.worker_prefetch_multiplier == 1


def test_unacknowledged_jobs_are_kept_under_the_prefix() -> None:
    options = configured(prefix="shop:").conf.broker_transport_options
    assert options["unacked_key"] == "shop:jobs:unacked"
    assert options["unacked_index_key"] == "shop:jobs:unacked_index"
    assert options["unacked_mutex_key"] == "shop:jobs:unacked_mutex"


def test_nothing_repeats_a_command_whose_reply_was_lost() -> None:
    options = configured().conf.broker_transport_options
    assert not {"retry_on_timeout", "global_keyprefix", "ack_emulation"} & set(options)


def test_the_transport_knows_every_option_it_is_given() -> None:
    options = configured(visibility_timeout_s=3).conf.broker_transport_options
    known = {
        *redis.Channel.from_transport_options,
        "unacked_restore_interval",  # read from the options by kombu's transport itself
    }
    assert set(options) <= known
    assert options["visibility_timeout"] == 3
    assert options["unacked_restore_interval"] == 3


def test_the_database_number_and_the_password_reach_the_broker() -> None:
    with configured().connection_for_write() as connection:
        assert connection.virtual_host == "3"
        assert connection.password == "secret"
        assert connection.ssl is False


def test_a_certificate_is_verified_unless_the_url_says_otherwise() -> None:
    url = "rediss://:secret@redis:6380/0"
    strict = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    assert configured(url).conf.broker_use_ssl == strict
    with configured(url).connection_for_write() as connection:
        assert connection.ssl == strict
    lax = configured(f"{url}?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem").conf
    assert lax.broker_use_ssl == {
        "ssl_cert_reqs": "none",
        "ssl_ca_certs": "/ca.pem",
        "ssl_check_hostname": False,
    }
    assert "?" not in lax.broker_url
    other = configured(f"{url}?ssl_check_hostname=false&ssl_min_version=TLSv1.3").conf
    assert other.broker_use_ssl == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": False,
        "ssl_min_version": TLSVersion.TLSv1_3,
    }


def test_a_sentinel_url_gives_every_sentinel_and_the_master_it_names() -> None:
    url = "sentinel://:secret@one:26379;sentinel://:secret@two:26379/2?master_name=main"
    conf = configured(url).conf
    assert conf.broker_url == ("sentinel://:secret@one:26379/2;sentinel://:secret@two:26379/2")
    options = conf.broker_transport_options
    assert options["master_name"] == "main"
    assert not {"username", "password", "ssl"} & options["sentinel_kwargs"].keys()


def test_sentinels_have_a_user_and_a_password_of_their_own() -> None:
    url = (
        "sentinel://app:one@[::1]:26379;sentinel://app:one@two:26379/2"
        "?master_name=main&sentinel_username=watcher&sentinel_password=t%26wo&ssl=true"
    )
    conf = configured(url).conf
    assert conf.broker_url == "sentinel://app:one@[::1]:26379/2;sentinel://app:one@two:26379/2"
    of_sentinels = conf.broker_transport_options["sentinel_kwargs"]
    assert (of_sentinels["username"], of_sentinels["password"]) == ("watcher", "t&wo")
    assert of_sentinels["ssl"]
    assert conf.broker_use_ssl == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    with redis_client(url) as client:
        kwargs = client.connection_pool.connection_kwargs
        assert (kwargs["username"], kwargs["password"], kwargs["db"]) == ("app", "one", 2)
        assert kwargs["ssl_check_hostname"]


# The schedule


def test_flushes_come_as_often_as_the_setting_says() -> None:
    assert intervals_s(7)["analytics.flush_counters"] == 7
    for interval_s, tick_s in ((7, 5), (2, 2)):  # a tick asks whether it is due
        schedule = configured(flush_interval_s=interval_s).conf.beat_schedule
        assert schedule["analytics.flush_counters"]["schedule"] == tick_s


def test_every_scheduled_task_runs_under_its_own_name() -> None:
    schedule = beat_schedule(300)
    assert set(schedule) == set(intervals_s(300))
    assert all(name == entry["task"] for name, entry in schedule.items())


def test_a_scheduled_request_waits_for_a_worker_however_long() -> None:
    # One of each waits, so none needs to expire; clocks may differ by hours.
    assert not any("options" in entry for entry in beat_schedule(300).values())


def test_beat_schedules_nothing_but_our_tasks_and_writes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    app = configured()
    beat = app.Beat()
    scheduler = beat.Service(app=app, scheduler_cls=beat.scheduler_cls).get_scheduler()
    assert set(scheduler.schedule) == set(intervals_s(300))
    assert not list(tmp_path.iterdir())


def test_beat_answers_when_it_is_asked_whether_it_lives() -> None:
    assert configured().conf.beat_enable_remote_control is True


# The log


Lines = Callable[[], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Reads what was logged; afterwards the log is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def read() -> list[str]:
        return capsys.readouterr().err.splitlines()

    yield read
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level


def test_a_json_line_carries_what_was_logged_and_its_extra_fields(lines: Lines) -> None:
    log_setup.configure("INFO", "json")
    logging.getLogger("pipeline.flushing.flush").info("stored %d", 3, extra={"batch": "b1"})
    (line,) = lines()
    entry = json.loads(line)
    assert entry["message"] == "stored 3"
    assert entry["level"] == "INFO"
    assert entry["logger"] == "pipeline.flushing.flush"
    assert entry["batch"] == "b1"
    assert entry["time"].endswith("Z")


def test_an_error_is_one_json_line_with_its_traceback(lines: Lines) -> None:
    log_setup.configure("INFO", "json")
    try:
        raise RuntimeError("no\nluck")
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    (line,) = lines()
    assert "RuntimeError: no\nluck" in json.loads(line)["exception"]


def test_a_value_json_does_not_know_is_logged_as_text(lines: Lines) -> None:
    log_setup.configure("INFO", "json")
    logging.getLogger("x").info("ids", extra={"ids": {1}})
    (line,) = lines()
    assert json.loads(line)["ids"] == "{1}"


def test_a_text_line_begins_with_the_time_in_utc(lines: Lines) -> None:
    log_setup.configure("INFO", "text")
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "levelno": logging.INFO, "msg": "hello"}
    )
    record.created = 0.5
    logging.getLogger().handle(record)
    (line,) = lines()
    assert line.startswith("1970-01-01T00:00:00.500Z INFO ")
    assert line.endswith("x: hello")


def test_a_second_configuration_replaces_the_first(lines: Lines) -> None:
    log_setup.configure("INFO", "text")
    log_setup.configure("WARNING", "json")
    logging.getLogger("x").info("hidden")
    logging.getLogger("x").warning("shown")
    assert [json.loads(line)["message"] for line in lines()] == ["shown"]


def test_a_line_within_a_task_has_its_id_in_both_forms(lines: Lines) -> None:
    app = Celery("test", set_as_current=False)

    @app.task(name="shop.work")  # type: ignore[untyped-decorator]
    def work() -> None:
        logging.getLogger("x").info("working", extra={"batch_id": "b1"})

    for form in ("json", "text"):
        log_setup.configure("INFO", form)  # type: ignore[arg-type]
        work.apply(task_id="t1")
    of_json, of_text = (one for one in lines() if "working" in one)
    entry = json.loads(of_json)
    assert (entry["task_id"], entry["task"], entry["batch_id"]) == ("t1", "shop.work", "b1")
    assert of_text.endswith("x: working task_id=t1 batch_id=b1")
