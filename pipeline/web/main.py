"""The composition root of the web application: from settings to a server.

`analytics web` calls `serve`; any ASGI server can run `pipeline.web.main:app` as a factory.
"""

from __future__ import annotations

import gc
import signal
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from pipeline import server_addresses
from pipeline.access.key_store import AccessKeyStore
from pipeline.errors import InvalidConfiguration
from pipeline.producer.app import configure
from pipeline.redis.client import redis_client
from pipeline.services import connect
from pipeline.web.app import create_app
from pipeline.web.connections import HeadTimeoutProtocol
from pipeline.web.dependencies import WebDependencies, WebOptions

if TYPE_CHECKING:
    from config.settings import Settings

REPLY_TIMEOUT_S = 1.0
STOP_TIMEOUT_S = 3
"""How long requests in flight may take when the server is asked to stop."""
_MAX_CONNECTIONS = 10_000
_GC_THRESHOLD = 20_000
"""Objects after which Python looks for cycles: its 700 come with every few requests."""


def create_dependencies(settings: Settings, redis_url: str, postgres_url: str) -> WebDependencies:
    """The clients and values for these servers; opens no connection. Configures this process's
    producer to publish to them."""
    from config.options import pipeline_options

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
    )
    return WebDependencies(services, client, AccessKeyStore(client, services.keys), options)


def app() -> Starlette:
    """The application for the settings of the environment, for ASGI servers."""
    from config import settings

    loaded = settings.load()
    return create_app(
        create_dependencies(
            loaded,
            server_addresses.find_redis_url(loaded.redis_url, loaded.data_dir),
            server_addresses.find_postgres_url(loaded.postgres_url, loaded.data_dir),
        )
    )


def serve(dependencies: WebDependencies, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then requests in flight are finished first.

    Raises `InvalidConfiguration` when another program has the port.
    """
    options = dependencies.options
    config = uvicorn.Config(
        create_app(dependencies),
        host=host,
        port=port,
        # Addresses of visitors are not kept, and the access log would keep them.
        access_log=False,
        log_level=options.log_level.lower(),
        server_header=False,
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=list(options.trusted_proxies),
        http=HeadTimeoutProtocol,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    # What is there now stays; and what a request leaves behind needs no collector.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    server = _Server(config, dependencies)
    try:
        server.run()
    except SystemExit as ended:  # uvicorn has logged why
        raise InvalidConfiguration(
            f"nothing can be served on {host}:{port}, see above: give another --host or --port"
        ) from ended


class _Server(uvicorn.Server):
    """Ends endless streams when the server is asked to stop; uvicorn would wait for them in
    vain."""

    def __init__(self, config: uvicorn.Config, dependencies: WebDependencies) -> None:
        super().__init__(config)
        self._stopping = dependencies.stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on SIGTERM or SIGINT. uvicorn would raise the signal again at the end; to have
        stopped as asked is no failure."""
        self._stopping.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
