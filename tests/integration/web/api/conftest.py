"""A served stats API with two tokens: one that reads, one that may forget users too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from pipeline.redis.client import redis_client
from pipeline.services import Services
from pipeline.web.access import Access
from pipeline.web.parts import WebOptions, WebParts
from tests.helpers.api_server import served


@dataclass(frozen=True)
class Api:
    """Where it is served, and a client for each kind of token."""

    origin: str
    parts: WebParts
    reader: httpx.Client
    forgetter: httpx.Client
    stranger: httpx.Client
    token: str


def parts_of(services: Services, redis_url: str, **options: str) -> WebParts:
    client = redis_client(redis_url, 1.0)
    return WebParts(services, client, Access(client, services.keys), WebOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
def web_options() -> dict[str, str]:
    """Options of the served application; tests replace it."""
    return {}


@pytest.fixture
def api(
    services: Services, redis_url: str, web_options: dict[str, str], sending: None
) -> Iterator[Api]:
    parts = parts_of(services, redis_url, **web_options)
    _, token = parts.access.create("read", "reader")
    _, forgetting = parts.access.create("read", "forgetter", may_forget=True)

    def client(token: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=origin, headers=headers, timeout=30)

    with (
        served(parts) as origin,
        client(token) as reader,
        client(forgetting) as forgetter,
        client(None) as stranger,
    ):
        yield Api(origin, parts, reader, forgetter, stranger, token)
    parts.redis.close()
