"""The Celery app of workers, beat and Flower, configured from the settings on first use."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn, TypeVar

import redis
from celery import signals
from kombu.exceptions import OperationalError

from config import logging as log_setup
from config import settings as config_settings
from config.celery import RABBITMQ_PREFETCH, celery_config
from config.options import pipeline_options
from config.settings import Settings
from pipeline.celery_app import OwnCelery
from pipeline.contract import EVENTS_QUEUE, TRACK_EVENT, TRACK_EVENTS
from pipeline.counting.apply import Counters
from pipeline.errors import PipelineError, RedisWentBack
from pipeline.installation import queues_of
from pipeline.metrics import processes
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import check_postgres
from pipeline.producer import rabbitmq
from pipeline.redis import installations
from pipeline.redis.client import check_redis
from pipeline.server_addresses import find_postgres_url, find_redis_url, reveal_url
from pipeline.server_errors import find_exit_status
from pipeline.services import Services, connect, connect_counters
from pipeline.traces import exporting
from pipeline.traces.spans import find_tracer
from tasks.worker import bounded_compression, stopping
from tasks.worker.checked_task import CheckedTask

Found = TypeVar("Found")
logger = logging.getLogger(__name__)


def end_process(error: PipelineError) -> NoReturn:
    """End this process with the error's line on standard error, and its exit status."""
    sys.stderr.write(f"analytics: {error}\n")
    raise SystemExit(find_exit_status(error)) from error


def _find_or_end(find: Callable[..., Found], *where: Any) -> Found:
    try:
        return find(*where)
    except PipelineError as error:
        end_process(error)


@cache
def settings() -> Settings:
    """The settings of this process; a wrong one ends it with its name."""
    return _find_or_end(config_settings.load)


def redis_url() -> str:
    """Where Redis is: the URL given, else the private server's. Ends the process when there is
    none."""
    return _find_or_end(find_redis_url, settings().redis_url, settings().data_dir)


def postgres_url() -> str:
    """Where Postgres is: the URL given, else the private server's. Ends the process when there is
    none."""
    return _find_or_end(find_postgres_url, settings().postgres_url, settings().data_dir)


def broker_url() -> str | None:
    """The URL of RabbitMQ, or None where Redis is the broker."""
    return reveal_url(settings().broker_url)


@cache
def counters() -> Counters:
    """The counters; every process makes its own connections. An event worker needs no Postgres."""
    made = connect_counters(pipeline_options(settings()), redis_url())
    if find_tracer() is not None:
        from tasks.worker.traced_applying import TracedApplying  # loads OpenTelemetry

        made.applying = TracedApplying
    return made


@cache
def services() -> Services:
    """The pipeline's services; every process makes its own connections."""
    options = pipeline_options(settings())
    return connect(options, redis_url(), postgres_url(), broker_url())


def celery_options() -> dict[str, Any]:
    """Celery's options; RabbitMQ's replace those of Redis where it is the broker."""
    options = celery_config(settings(), redis_url())
    url = broker_url()
    if url is not None:
        options |= rabbitmq.celery_options(url, [queue.name for queue in options["task_queues"]])
    return options


bounded_compression.install()
app = OwnCelery("analytics", task_cls=CheckedTask, control="tasks.purging:Control")
app.add_defaults(celery_options)
if "flower.command" in sys.modules:  # Celery's command line loads it before any app
    from tasks import guarded_flower

    guarded_flower.install(lambda: settings().data_dir)


@signals.setup_logging.connect
def _set_up_logging(loglevel: int = logging.WARNING, **_: Any) -> None:
    """The level of the settings, or a more talkative one from `--loglevel`."""
    level = min(loglevel, logging.getLevelNamesMapping()[settings().log_level])
    log_setup.configure(level, settings().log_format)
    if level > logging.DEBUG:
        # Celery notes each task at INFO, twice: thousands of lines a second for events.
        for per_task in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(per_task).setLevel(logging.WARNING)
        # Beat notes each tick, of which few find that something is due.
        logging.getLogger("celery.beat").addFilter(_is_no_tick)


def _is_no_tick(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Scheduler: Sending due task")


@signals.task_failure.connect
def _log_expected_failure(sender: Any, exception: Exception, **_: Any) -> None:
    """One line for what a task may meet (`throws`); Celery logs all else with its traceback."""
    if isinstance(exception, sender.throws):
        level = logging.CRITICAL if isinstance(exception, RedisWentBack) else logging.WARNING
        logger.log(level, "%s: %s", sender.name, exception)


@signals.celeryd_init.connect
def _check_queues(options: dict[str, Any], **_: Any) -> None:
    """Refuse a queue that this installation does not have, such as one of another's."""
    _find_or_end(settings().require_enabled, "a worker")
    chosen, prefix = options.get("queues") or (), settings().prefix
    for name in chosen.split(",") if isinstance(chosen, str) else chosen:
        if name not in app.amqp.queues:
            raise SystemExit(
                f"analytics: there is no queue {name} for a worker of ANALYTICS_PREFIX={prefix}: "
                f"it has {', '.join(queues_of(prefix))}; name one of these after -Q, or run "
                "`analytics worker events` or `analytics worker flush`"
            )


def _cut_traceback(record: logging.LogRecord) -> bool:
    """The line says what a server refuses, such as the control commands of beat when it is full."""
    if record.exc_info and isinstance(record.exc_info[1], redis.RedisError | OperationalError):
        record.exc_info = None
    return True


@signals.beat_init.connect
def _check_beat(**_: Any) -> None:
    """Begin where Postgres is away or not ours, and say so: beat only asks for what needs it."""
    _find_or_end(settings().require_enabled, "beat")
    logging.getLogger("celery.beat").addFilter(_cut_traceback)
    chosen = settings()
    try:
        url = find_postgres_url(chosen.postgres_url, chosen.data_dir)
        engine = postgres_engine(url, chosen.postgres_schema)
        check_postgres(engine, writes=True)
        engine.dispose()
    except PipelineError as error:
        logger.warning("what beat asks for will fail: %s", error)


@signals.worker_init.connect
def _check_servers(sender: Any, **_: Any) -> None:
    """Start only on servers that keep what they acknowledge; set how many messages the worker may
    hold."""
    queues = set(sender.app.amqp.queues.consume_from)
    ours = queues_of(settings().prefix)
    role = "flush" if ours.flush in queues else "events"
    if settings().traces:
        _find_or_end(exporting.begin, role)
    try:
        doubt = check_redis(counters().client, settings().appendfsync)
        installations.enter(counters().client, settings().prefix)
        if queues & {ours.flush, ours.maintenance}:
            check_postgres(services().engine, writes=True)
    except PipelineError as error:
        end_process(error)
    if doubt is not None:  # the log is not set up yet
        signals.worker_ready.connect(lambda **_: logger.warning("%s", doubt), weak=False)
    processes.begin(role, settings().metrics_address, settings().metrics_port)
    _give_lanes_processes(sender, queues)
    if queues <= {ours.events, EVENTS_QUEUE}:
        sender.prefetch_multiplier = RABBITMQ_PREFETCH  # the event lane has limits of its own
        stopping.end_in_time(sender)
    if broker_url() is not None:
        # Monitors would get three messages for every event; and while RabbitMQ takes none, for want
        # of memory, a worker that must send some stops counting.
        for task in (TRACK_EVENT, TRACK_EVENTS):
            sender.app.tasks[task].send_events = False
    _forget_connections()


def _give_lanes_processes(worker: Any, queues: set[str]) -> None:
    """Have a process for each lane whose requests a worker takes, whatever `-c` says: no run waits
    for one of another lane."""
    ours = queues_of(settings().prefix)
    lanes = 2 * (ours.flush in queues) + (ours.maintenance in queues)
    if not stopping.is_solo(worker) and isinstance(worker.concurrency, int):
        worker.concurrency = max(worker.concurrency, lanes)


@signals.worker_process_init.connect
def _forget_connections(**_: Any) -> None:
    """A forked pool process must not share its parent's connections."""
    counters.cache_clear()
    if services.cache_info().currsize:
        services().engine.dispose(close=False)
    services.cache_clear()
    processes.begin_child()


@signals.worker_process_shutdown.connect
def _keep_last_numbers(**_: Any) -> None:
    processes.end_child()
    exporting.end()


@signals.worker_shutdown.connect
def _send_last_spans(**_: Any) -> None:
    exporting.end()
