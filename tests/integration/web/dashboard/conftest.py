"""A served dashboard, and browsers that are signed in to it, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.access.sessions import SessionStore
from pipeline.redis.client import redis_client
from pipeline.services import Services
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import NO_TLS, served


@dataclass(frozen=True)
class DashboardSite:
    """Where it is served. `viewer` may read, `operator` may operate, edit and forget, `stranger` is
    not signed in."""

    origin: str
    dependencies: WebDependencies
    viewer: httpx.Client
    operator: httpx.Client
    stranger: httpx.Client
    token: str
    token_id: str
    sessions: SessionStore


@pytest.fixture
def make_site(redis_url: str, sending: None) -> Iterator[Callable[[Services], DashboardSite]]:
    """Serves dashboards: `make_site(services)`."""
    with ExitStack() as running:
        yield lambda services: running.enter_context(_serve(services, redis_url))


@pytest.fixture
def site(services: Services, make_site: Callable[[Services], DashboardSite]) -> DashboardSite:
    return make_site(services)


@contextmanager
def _serve(services: Services, redis_url: str) -> Iterator[DashboardSite]:
    client = redis_client(redis_url, 1.0)
    access = AccessKeyStore(client, services.keys)
    dependencies = WebDependencies(services, client, access, WebOptions())
    key, token = access.create("read", "viewer")
    _, other = access.create("read", "all", may_forget=True, may_operate=True, may_edit=True)
    with (
        served(dependencies) as origin,
        httpx.Client(base_url=origin, timeout=30, verify=NO_TLS) as viewer,
        httpx.Client(base_url=origin, timeout=30, verify=NO_TLS) as operator,
        httpx.Client(base_url=origin, timeout=30, verify=NO_TLS) as stranger,
    ):
        for browser, text in ((viewer, token), (operator, other)):
            assert sign_in(browser, text).status_code == 303
        sessions = SessionStore(client, services.keys)
        yield DashboardSite(
            origin, dependencies, viewer, operator, stranger, token, key.id, sessions
        )


def sign_in(browser: httpx.Client, token: str, **headers: str) -> httpx.Response:
    """Send the form as a page of the dashboard does."""
    origin = f"{browser.base_url}".rstrip("/")
    return browser.post(
        "/dashboard/sign-in", data={"token": token}, headers={"Origin": origin, **headers}
    )
