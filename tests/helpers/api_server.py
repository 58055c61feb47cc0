"""The web application on a socket of 127.0.0.1, in a thread of the test: a real server of uvicorn's
without the two seconds that a process takes to start."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from pipeline.web.app import create_app
from pipeline.web.dependencies import WebDependencies
from tests.helpers.support import eventually


@contextmanager
def served(dependencies: WebDependencies) -> Iterator[str]:
    """Serve the application; yields its origin."""
    config = uvicorn.Config(
        create_app(dependencies),
        port=0,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start; its log says why"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        dependencies.stopping.set()
        server.should_exit = True
        thread.join()


def sse(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream as (name, data); comments as ("comment", text)."""
    name = ""
    for line in response.iter_lines():
        field, _, value = line.partition(":")
        if line.startswith(":"):
            yield "comment", value.strip()
        elif field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value)
