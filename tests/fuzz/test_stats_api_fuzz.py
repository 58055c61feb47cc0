"""schemathesis over the OpenAPI document: whatever a client may ask, the stats API answers as it
says it does."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

import pytest
from hypothesis import given

from pipeline.access.key_store import AccessKeyStore
from pipeline.event.model import Event
from pipeline.services import Services
from tests.fuzz.budget import fuzz
from tests.helpers.support import Workers, count_events
from tests.helpers.web_process import WebProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of schemathesis about its own dependencies
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import negative_data_rejection, positive_data_acceptance

EXAMPLES = 30
ENDLESS = "/api/stats/live"
"""Streams until its client goes; has tests of its own."""
NOT_SAID = [positive_data_acceptance, negative_data_rejection]
"""A document cannot say that one day must not be after another, and what was generated as wrong may
be right as it is sent."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def web(workers: Workers, services: Services) -> WebProcess:
    now = datetime.now(UTC)
    seen = [Event.create("page_view", f"u{n}", {"path": "/"}, now=now) for n in range(5)]
    count_events(services, *seen)
    services.flush()
    return WebProcess(workers).start()


def test_the_api_does_what_its_openapi_document_says(web: WebProcess, services: Services) -> None:
    access = AccessKeyStore(services.redis, services.keys)
    token = access.create("read", "fuzz", may_forget=True, may_edit=True)[1]
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{web.origin}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    asked = [operation for operation in operations if operation.path != ENDLESS]
    assert len(asked) >= 8

    for operation in asked:
        right, wrong = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

        @given(case=right | wrong)
        def check(case: schemathesis.Case) -> None:
            response = case.call(headers=headers, timeout=30)
            assert "Traceback" not in response.text
            case.validate_response(response, headers=headers, excluded_checks=NOT_SAID)

        fuzz(check, EXAMPLES, parts=len(asked))

    assert "Traceback" not in web.said()
