"""The composition root of the command line: settings, addresses and clients, made when needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import server_addresses
from pipeline.cli.output import warn
from pipeline.errors import ServerUnavailable
from pipeline.system import rooms

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.access.key_store import AccessKeyStore
    from pipeline.services import Services

DATA_DIR_VARIABLE = "ANALYTICS_DATA_DIR"


def use_data_dir(directory: Path) -> None:
    """Make `--data-dir` what the settings, and every process started from here, read."""
    os.environ[DATA_DIR_VARIABLE] = str(directory.absolute())


def load_settings() -> Settings:
    """The settings of the environment. Raises `InvalidConfiguration`."""
    rooms.check_room("config")
    from config import settings

    return settings.load()


def read_user_id_secret() -> str:
    """The HMAC secret for pseudonymising user ids; empty where there is none."""
    secret = load_settings().user_id_secret
    return secret.get_secret_value() if secret else ""


def find_redis_url(settings: Settings) -> str:
    """The URL of the settings, else that of the private server, which must run.

    Raises `InvalidConfiguration`, or `ServerUnavailable` when the private servers are stopped.
    """
    url = server_addresses.find_redis_url(settings.redis_url, settings.data_dir)
    if settings.redis_url is None:
        _check_private_servers_run(settings.data_dir)
    return url


def find_postgres_url(settings: Settings) -> str:
    """The URL of the settings, else that of the private server, which must run.

    Raises `InvalidConfiguration`, or `ServerUnavailable` when the private servers are stopped.
    """
    url = server_addresses.find_postgres_url(settings.postgres_url, settings.data_dir)
    if settings.postgres_url is None:
        _check_private_servers_run(settings.data_dir)
    return url


def find_broker_url(settings: Settings) -> str | None:
    """The URL of RabbitMQ, or None where Redis is the broker."""
    return server_addresses.reveal_url(settings.broker_url)


def load_celery_app() -> Any:
    """The Celery app with our tasks, for workers and for control commands."""
    find_redis_url(load_settings())
    rooms.check_room("tasks")
    if (overwritten := rooms.warn_of_overwritten()) is not None:
        warn(overwritten)
    from tasks.app import app

    return app


def ping_nodes(app: Any, timeout_s: float) -> list[str]:
    """Names of the Celery nodes, workers and beat, that answer within `timeout_s`."""
    replies: list[dict[str, object]] = app.control.ping(timeout=timeout_s) or []
    return [name for reply in replies for name in reply]


def configure_producer() -> None:
    """Make `track_event` and `track_events` publish where the settings say.

    Raises `ServerUnavailable` at once when Redis does not answer, which a publish would be tried
    for half a minute to overcome.
    """
    from pipeline.producer.app import configure
    from pipeline.redis.client import redis_client
    from pipeline.server_errors import report_errors

    settings = load_settings()
    settings.require_enabled("this command")
    url = find_redis_url(settings)
    with redis_client(url) as client, report_errors(redis=client):
        client.ping()
    configure(
        redis_url=url,
        broker_url=find_broker_url(settings),
        prefix=settings.prefix,
        plain_user_ids=False,  # an export that is imported again has pseudonyms
    )


@contextmanager
def open_services(
    *, postgres_may_be_away: bool = False, unchecked: bool = False
) -> Iterator[Services]:
    """The services of the pipeline, on tables that are those of this version; `unchecked`, on any.

    Raises `InvalidConfiguration` where they are not, and `ServerUnavailable`.
    """
    from config.options import pipeline_options
    from pipeline.postgres.fitness import check_postgres
    from pipeline.services import connect

    settings = load_settings()
    services = connect(
        pipeline_options(settings),
        find_redis_url(settings),
        find_postgres_url(settings),
        find_broker_url(settings),
    )
    try:
        if not unchecked:
            with suppress(ServerUnavailable) if postgres_may_be_away else nullcontext():
                check_postgres(services.engine)
        yield services
    finally:
        services.close()


@contextmanager
def open_access() -> Iterator[AccessKeyStore]:
    """The access keys of the web server, which Redis holds."""
    from pipeline.access.key_store import AccessKeyStore
    from pipeline.redis.client import redis_client
    from pipeline.redis.keys import Keys

    settings = load_settings()
    with redis_client(find_redis_url(settings)) as client:
        yield AccessKeyStore(client, Keys(settings.prefix))


def _check_private_servers_run(data_dir: Path) -> None:
    """The file with their addresses stays when they stop."""
    addresses = server_addresses.read(data_dir)
    if addresses is None:
        return
    try:
        os.kill(addresses.pid, 0)
    except ProcessLookupError:
        raise ServerUnavailable(
            f"the private servers of {data_dir.absolute()} are not running: start `analytics up` "
            "there, or set ANALYTICS_REDIS_URL and ANALYTICS_POSTGRES_URL to use others"
        ) from None
    except PermissionError:
        pass  # it runs, as another user
