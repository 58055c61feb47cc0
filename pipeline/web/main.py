"""The composition root of the web application: from settings to a server.

`analytics web` calls `serve`; `uvicorn --factory pipeline.web.main:app` does the same.
"""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from pipeline import server_addresses
from pipeline.access.key_store import AccessKeyStore
from pipeline.errors import InvalidConfiguration, PipelineError
from pipeline.measures import is_measured
from pipeline.metrics import processes
from pipeline.postgres.fitness import check_postgres
from pipeline.producer.app import configure
from pipeline.redis.client import redis_client
from pipeline.services import connect
from pipeline.system.rooms import use_rooms
from pipeline.traces import exporting
from pipeline.traces.spans import find_tracer
from pipeline.web.app import create_app
from pipeline.web.dependencies import WebDependencies, WebOptions
from pipeline.web.server.adoption import AdoptingApplication
from pipeline.web.server.file_limit import divide_file_limit
from pipeline.web.server.measured import MeasuredApplication
from pipeline.web.server.server import Server, create_config
from pipeline.web.server.sockets import listen_on

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from config.settings import Settings

REPLY_TIMEOUT_S = 1.0
_GC_THRESHOLD = 20_000
"""Objects after which Python looks for cycles: its 700 come with every few requests."""

logger = logging.getLogger("uvicorn.error")
"""The server's own, which prints what users look for when it starts."""


def create_dependencies(settings: Settings, redis_url: str, postgres_url: str) -> WebDependencies:
    """The clients and values for these servers; opens no connection. Configures this process's
    producer to publish to them."""
    from config.options import pipeline_options

    settings.require_enabled("the web server")
    broker_url = server_addresses.reveal_url(settings.broker_url)
    configure(
        redis_url=redis_url,
        broker_url=broker_url,
        prefix=settings.prefix,
        publish_timeout_s=REPLY_TIMEOUT_S,
        plain_user_ids=False,  # the collector makes pseudonyms itself
    )
    services = connect(pipeline_options(settings), redis_url, postgres_url, broker_url)
    client = redis_client(redis_url, REPLY_TIMEOUT_S)
    secret = settings.user_id_secret
    options = WebOptions(
        user_id_secret=secret.get_secret_value() if secret else "",
        key_events_per_s=settings.key_events_per_s,
        page_key_events_per_s=settings.page_key_events_per_s,
        address_requests_per_s=settings.address_requests_per_s,
        trusted_proxies=tuple(settings.trusted_proxies),
        log_level=settings.log_level,
        page_properties=tuple(settings.page_properties),
        sessions=settings.sessions,
    )
    return WebDependencies(services, client, AccessKeyStore(client, services.keys), options)


def app() -> AdoptingApplication:
    """The application for the settings of the environment, for `uvicorn --factory`."""
    use_rooms()
    from config import settings

    loaded = settings.load()
    begin_telemetry(loaded)
    dependencies = create_dependencies(
        loaded,
        server_addresses.find_redis_url(loaded.redis_url, loaded.data_dir),
        server_addresses.find_postgres_url(loaded.postgres_url, loaded.data_dir),
    )
    return AdoptingApplication(_create_config(dependencies))


def begin_telemetry(settings: Settings) -> None:
    """Measure this process and record its spans, as far as the settings say. Raises
    `InvalidConfiguration` where the latter cannot be done."""
    processes.begin("web", settings.metrics_address, settings.metrics_port)
    if settings.traces:
        exporting.begin("web")


def serve(dependencies: WebDependencies, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then requests in flight are finished first.

    Raises `InvalidConfiguration` when another program has the port.
    """
    config = _create_config(dependencies, dependencies.options.log_level.lower())
    sockets = listen_on(host, port)
    # What is there now stays; and what a request leaves behind needs no collector.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    Thread(target=_log_misfit, args=(dependencies.services.engine,), daemon=True).start()
    server = Server(config, dependencies.stopping)
    logger.info("listening on %s, port %d", host, port)
    try:
        server.run(sockets)
    except SystemExit as ended:  # uvicorn has logged why
        raise InvalidConfiguration("the web server could not start, see above") from ended


def _log_misfit(engine: Engine) -> None:
    """Log why reads will be refused. Events are taken all the same: that needs no Postgres."""
    try:
        check_postgres(engine)
    except PipelineError as error:
        logger.warning("events are taken, and reads refused: %s", error)


def _create_config(dependencies: WebDependencies, log_level: str | None = None) -> uvicorn.Config:
    options, limits = dependencies.options, dependencies.options.connection_limits
    files = divide_file_limit(limits.connections)
    limits = replace(limits, connections=files.connections)
    created = create_app(dependencies)
    application: ASGIApp = created
    tracer = find_tracer()
    if tracer is not None:
        from pipeline.web.server.traced import TracedApplication  # loads OpenTelemetry

        application = TracedApplication(created, tracer, created.find_path)
    if is_measured():
        application = MeasuredApplication(application)
    proxies = options.trusted_proxies
    return create_config(application, limits, proxies, log_level, files.backlog)
