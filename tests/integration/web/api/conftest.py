"""A served stats API with two tokens: one that reads, one that may forget users too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.redis.client import redis_client
from pipeline.services import Services
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import NO_TLS, served


@dataclass(frozen=True)
class Api:
    """Where it is served, and a client for each kind of token."""

    origin: str
    dependencies: WebDependencies
    reader: httpx.Client
    forgetter: httpx.Client
    stranger: httpx.Client
    token: str


def make_dependencies(services: Services, redis_url: str, **options: str) -> WebDependencies:
    client = redis_client(redis_url, 1.0)
    return WebDependencies(
        services, client, AccessKeyStore(client, services.keys), WebOptions(**options)
    )  # type: ignore[arg-type]


@pytest.fixture
def web_options() -> dict[str, str]:
    """Options of the served application; tests replace it."""
    return {}


@pytest.fixture
def api(
    services: Services, redis_url: str, web_options: dict[str, str], sending: None
) -> Iterator[Api]:
    dependencies = make_dependencies(services, redis_url, **web_options)
    _, token = dependencies.access_keys.create("read", "reader")
    _, forgetting = dependencies.access_keys.create("read", "forgetter", may_forget=True)

    def client(token: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=origin, headers=headers, timeout=30, verify=NO_TLS)

    with (
        served(dependencies) as origin,
        client(token) as reader,
        client(forgetting) as forgetter,
        client(None) as stranger,
    ):
        yield Api(origin, dependencies, reader, forgetter, stranger, token)
    dependencies.redis.close()
