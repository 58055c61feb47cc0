"""A client that may edit what viewers share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.helpers.api_server import NO_TLS
from tests.integration.web.api.conftest import Api


@pytest.fixture
def editor(api: Api) -> Iterator[httpx.Client]:
    _, token = api.dependencies.access_keys.create("read", "editor", may_edit=True)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=api.origin, headers=headers, timeout=30, verify=NO_TLS) as client:
        yield client
