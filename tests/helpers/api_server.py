"""The web application on a socket of 127.0.0.1, in a thread of the test: a real server of uvicorn's
without the two seconds that a process takes to start."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from pipeline.web.app import create_app
from pipeline.web.dependencies import WebDependencies
from tests.helpers.web_server import run_in_thread

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: httpx reads all certificates for each, for 20 ms."""


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
    with run_in_thread(config, dependencies) as port:
        yield f"http://127.0.0.1:{port}"


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
