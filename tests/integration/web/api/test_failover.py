"""A Postgres that is read-only for a while, as after a failover, behind the web server: it goes on
reading, says that it cannot change anything, and changes things again without a restart."""

from __future__ import annotations

import httpx

from pipeline.services import Services
from tests.helpers.api_server import NO_TLS
from tests.helpers.support import TODAY, count_events, event
from tests.integration.postgres.test_failover import fill_pool, read_only
from tests.integration.web.api.conftest import Api

NOTE = {"at": "2026-03-14T12:00:00Z", "text": "a failover"}
VIEW = {"name": "a week", "url": "/dashboard?range=7d"}
FUNNEL = "/api/stats/funnel?step=page_view&step=sale&window=1h&from=2025-03-14&to=2025-03-14"


def test_the_web_server_reads_on_and_changes_things_again_by_itself(
    api: Api, services: Services, postgres_url: str
) -> None:
    count_events(services, event(user_id="u1"), event("sale", "u1"))
    services.archive_events()
    _, token = api.dependencies.access_keys.create("read", "editor", may_edit=True)
    headers = {"Authorization": f"Bearer {token}"}
    count = f"/api/stats/count?event_type=page_view&from={TODAY}&to={TODAY}"
    with httpx.Client(base_url=api.origin, headers=headers, verify=NO_TLS, timeout=30) as editor:
        with read_only(services, postgres_url):
            fill_pool(services)
            assert api.reader.get(count).json()["count"] == 1
            assert api.reader.get(FUNNEL).json()["steps"][0]["users"] == 1
            for request in (
                lambda: editor.post("/api/annotations", json=NOTE),
                lambda: editor.post("/api/saved-views", json=VIEW),
                lambda: api.forgetter.delete("/api/users/u9"),
            ):
                fill_pool(services)
                answer = request()
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "unavailable"
            assert api.stranger.get("/readyz?for=collecting").status_code == 200
            fill_pool(services)
        first = editor.post("/api/annotations", json=NOTE).status_code
        assert first in (201, 503)  # which drops the whole pool
        assert editor.post("/api/annotations", json=NOTE).status_code == 201
        assert api.reader.get(FUNNEL).status_code == 200
        assert api.forgetter.delete("/api/users/u9").status_code == 200
        assert api.reader.get(count).json()["count"] == 1
