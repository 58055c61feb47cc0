"""The web application on a socket of this process, and a client that says exactly what it sends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import uvicorn

from pipeline.access.key_store import AccessKeyStore
from pipeline.redis.client import redis_client
from pipeline.services import Services
from pipeline.web.app import create_app
from pipeline.web.dependencies import WebDependencies, WebOptions
from pipeline.web.server.server import create_config

_CLOSES = 20
CALLS = ("track", "page", "screen", "identify", "group", "alias")
_SEGMENT_BATCH = {"batch": [{"type": "track", "event": "sale"}]}
_POSTHOG_BATCH = {"batch": [{"event": "sale"}]}
BODIES: dict[str, object] = {
    **{f"/v1/{call}": {"event": "sale"} for call in CALLS},
    **{f"/v1/{call[0]}": {"event": "sale"} for call in CALLS},
    **dict.fromkeys(("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"), _SEGMENT_BATCH),
    **dict.fromkeys(("/batch", "/i/v0/ai/batch", "/i/v1/analytics/events"), _POSTHOG_BATCH),
    **{path: {"event": "sale"} for path in ("/capture", "/e", "/i/v0/e")},
    "/api/event": {"name": "pageview", "url": "https://a.example/"},
    "/track": {"event_type": "sale"},
    "/click": {},
}
"""For every route that takes a body, one that it takes."""


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class WebServer:
    """A server that runs; `key` is a write key that pages of any origin may use."""

    def __init__(self, dependencies: WebDependencies, port: int, key: str) -> None:
        self.dependencies, self.port, self.key = dependencies, port, key

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, as it is given, and read the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def post(self, path: str, content: object, key: str | None = None, **headers: str) -> Answer:
        """Send JSON with a write key as HTTP Basic; `headers` have underscores for dashes."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.send("POST", path, body, {**basic(self.key if key is None else key), **given})


def basic(key: str) -> dict[str, str]:
    """HTTP Basic with the key as user name, as Segment's clients send it."""
    return {"Authorization": "Basic " + b64encode(f"{key}:".encode()).decode()}


@contextmanager
def serving(
    services: Services, redis_url: str, key: str = "", **options: Any
) -> Iterator[WebServer]:
    """A server on a free port of loopback; publishes as this process's producer does. Makes a write
    key unless it is given one."""
    client = redis_client(redis_url, 1)
    dependencies = WebDependencies(
        services, client, AccessKeyStore(client, services.keys), WebOptions(**options)
    )
    web_options = dependencies.options
    config = create_config(
        create_app(dependencies), web_options.connection_limits, web_options.trusted_proxies
    )
    config.port = 0
    try:
        with run_in_thread(config, dependencies) as port:
            key = key or dependencies.access_keys.create("write", "tests", ["*"])[1]
            yield WebServer(dependencies, port, key)
    finally:
        client.close()


class _PromptServer(uvicorn.Server):
    """Exits at once: uvicorn finds out every 100 ms that it is to exit, and waits then for as long
    where no connection is left too."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._waking = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.listens = threading.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.listens.set()
        ticks = itertools.count()
        while not await self.on_tick(next(ticks)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._waking.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for _ in range(_CLOSES):  # what clients have closed
            if not self.server_state.connections and not self.server_state.tasks:
                break
            await asyncio.sleep(0.001)
        else:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()

    def exit_now(self) -> None:
        """End the main loop."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._waking.set)


@contextmanager
def run_in_thread(config: uvicorn.Config, dependencies: WebDependencies) -> Iterator[int]:
    """Serve on a free port of loopback, in a thread of this process; yields the port."""
    server = _PromptServer(config)

    def run() -> None:
        try:
            server.run()
        finally:
            server.listens.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert server.listens.wait(20)
        assert server.started, "the server did not start; its log says why"
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        dependencies.stopping.set()
        server.exit_now()
        thread.join(20)
        assert not thread.is_alive()


def pixel(web: WebServer, key: str) -> Answer:
    """Load the pixel with this key."""
    return web.send("GET", f"/pixel.gif?{urlencode({'key': key})}")
