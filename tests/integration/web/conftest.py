"""The web application, in this process and on a socket, with the test's Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pipeline.services import Services
from tests.helpers.web_server import WebServer, serving


@pytest.fixture
def make_web(services: Services, redis_url: str, sending: None) -> Iterator[Callable[..., Any]]:
    """Starts servers: `make_web(key_events_per_s=5)`."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(serving(services, redis_url, **options))


@pytest.fixture
def web(make_web: Callable[..., WebServer]) -> WebServer:
    """A server with no limits and no pseudonyms."""
    return make_web()
