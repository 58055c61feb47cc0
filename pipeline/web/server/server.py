"""uvicorn, set up so that slow clients, floods and its log do no harm."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from functools import partial
from threading import Event
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from pipeline.web.server.connections import ConnectionLimits, Connections
from pipeline.web.server.protocol import BufferedConnection

STOP_TIMEOUT_S = 3
"""How long requests in flight may take when the server is asked to stop."""


def create_config(
    app: ASGIApp,
    limits: ConnectionLimits,
    trusted_proxies: Sequence[str] = (),
    log_level: str | None = None,
    backlog: int = 128,
) -> uvicorn.Config:
    """The configuration of a server whose connections have these limits.

    `X-Forwarded-For` is believed of trusted proxies alone. Without a `log_level`, logging stays as
    it is, but for the access log, which is off.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_no_client_of_ours)
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=partial(BufferedConnection, Connections(limits, trusted_proxies)),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        # Addresses of visitors are not kept, and the access log would keep them.
        access_log=False,
        log_config=uvicorn.config.LOGGING_CONFIG if log_level else None,
        log_level=log_level,
        backlog=backlog,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )


class Server(uvicorn.Server):
    """Ends endless streams when the server is asked to stop; uvicorn would wait for them in
    vain."""

    def __init__(self, config: uvicorn.Config, stopping: Event) -> None:
        """`stopping` is set when the server is to stop."""
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on SIGTERM or SIGINT. uvicorn would raise the signal again at the end; to have
        stopped as asked is no failure."""
        self._stopping.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _is_no_client_of_ours(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is worth keeping: a request that was cut off by the end of the
    server is no fault."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
