"""What all routes have in common: tokens, errors, CSV, tags, and servers that are away."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers
from pipeline.postgres.schema import migrate
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services, connect
from pipeline.web.api.app import create_stats_api
from pipeline.web.api.threads import ThreadPools
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.support import count_events, event
from tests.integration.web.api.conftest import Api, make_dependencies

REPORT = "0" * 32
_READERS, _ASKED_AT_ONCE = 3, 9
"""A server that stands still takes seconds of each of many routes, of which a token has a third of
the threads."""
ROUTES = [
    ("GET", "/api/stats/count?event_type=page_view"),
    ("GET", "/api/stats/hourly?event_type=page_view"),
    ("GET", "/api/stats/series?event_type=page_view"),
    ("GET", "/api/stats/overview"),
    ("GET", "/api/stats/top?event_type=page_view"),
    ("GET", "/api/stats/sum?event_type=time_on_page&property=seconds"),
    ("GET", "/api/stats/percentiles?event_type=time_on_page&property=seconds"),
    ("GET", "/api/stats/histogram?event_type=time_on_page&property=seconds"),
    ("GET", "/api/stats/types"),
    ("GET", "/api/stats/properties?event_type=page_view"),
    ("GET", "/api/stats/funnel?step=page_view&step=sale&window=1h"),
    ("GET", "/api/stats/breakdown?event_type=page_view&property=path"),
    ("GET", f"/api/reports/{REPORT}"),
    ("GET", "/api/stats/users?event_type=page_view"),
    ("GET", "/api/stats/active"),
    ("GET", "/api/stats/retention?start=page_view&return=page_view"),
    ("GET", "/api/stats/live?event_type=page_view"),
    ("GET", "/api/users/u1"),
    ("DELETE", "/api/users/u1"),
    ("GET", "/api/users/u1/counts"),
    ("GET", "/api/properties/path/x/counts?event_type=page_view"),
    ("GET", "/api/events"),
    ("GET", "/api/status"),
    ("GET", "/api/workers"),
    ("GET", "/api/dead-letters"),
    ("GET", "/api/annotations"),
    ("POST", "/api/annotations"),
    ("DELETE", "/api/annotations/1"),
    ("GET", "/api/saved-views"),
    ("POST", "/api/saved-views"),
    ("DELETE", "/api/saved-views/2"),
]
NOTE = '{"at": "2025-03-14T12:00:00Z", "text": "a note"}'
VIEW = '{"name": "a view", "url": "/dashboard"}'
NO_TABLES = ("/api/stats/live", "/api/status", "/api/workers", "/api/dead-letters", "/api/reports")
PEOPLE = ("/api/stats/users", "/api/stats/active", "/api/stats/retention")
ARCHIVE = ("/api/stats/properties", "/api/stats/funnel", "/api/stats/breakdown", "/api/reports")
SHARED = ("/api/annotations", "/api/saved-views")
READ_ONE = {
    "redis": ("/api/stats/top", "/api/events", *SHARED, *ARCHIVE, *PEOPLE),
    "postgres": ("/api/status", "/api/workers"),
}
TABLES = [path for method, path in ROUTES if method == "GET" and not path.startswith(NO_TABLES)]


def error(response: httpx.Response) -> dict[str, str]:
    assert response.headers["content-type"] == "application/json"
    found: dict[str, str] = response.json()["error"]
    assert "Traceback" not in response.text
    return found


def test_the_list_of_routes_here_is_complete(services: Services, redis_url: str) -> None:
    dependencies = make_dependencies(services, redis_url)
    threads = ThreadPools(dependencies.redis, services.engine)
    document = create_stats_api(dependencies, threads).openapi()
    threads.close()
    documented = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    names = {"u1": "{user_id}", "path": "{name}", "x": "{value}", REPORT: "{report_id}"}
    names |= {"1": "{annotation_id}", "2": "{view_id}"}
    listed = {
        (method, "/".join(names.get(part, part) for part in path.partition("?")[0].split("/")))
        for method, path in ROUTES
    }
    assert listed == documented


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_read_token(api: Api, method: str, path: str) -> None:
    _, write_key = api.dependencies.access_keys.create("write", "page")
    revoked, was_valid = api.dependencies.access_keys.create("read", "old")
    api.dependencies.access_keys.revoke(revoked.id)
    presented = [None, "rt_", "nonsense", write_key, was_valid, f"{api.token}x", "rt_ä_ö"]

    for token in presented:
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        response = api.stranger.request(method, path, headers=headers)
        assert response.status_code == 401, token
        assert error(response)["code"] == "unauthorised"
        assert "WWW-Authenticate" in response.headers


def test_only_the_live_stream_takes_its_token_from_the_query(api: Api) -> None:
    response = api.stranger.get(f"/api/stats/count?event_type=x&token={api.token}")
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("path", "field", "said"),
    [
        ("/api/stats/count", "event_type", "is required"),
        ("/api/stats/count?event_type=", "event_type", "at least 1 character"),
        ("/api/stats/count?event_type=x%00", "event_type", "pattern"),
        ("/api/stats/count?event_type=x&from=2025-02-30", "from", "'2025-02-30' is not a day"),
        ("/api/stats/count?event_type=x&from=20250201", "from", "is not a day"),
        ("/api/stats/count?event_type=x&from=9999-12-31", "from", "out of bounds"),
        ("/api/stats/count?event_type=x&to=2025-01-01", "to", "no beginning"),
        ("/api/stats/count?event_type=x&from=2025-01-02&to=2025-01-01", "from", "earlier day"),
        ("/api/stats/count?event_type=x&from=1990-01-01", "from", "at most 3660 days"),
        ("/api/stats/count?event_type=x&form=2025-01-01", "form", "no such parameter"),
        ("/api/stats/count?event_type=x&format=xml", "format", "'json' or 'csv'"),
        ("/api/stats/series?event_type=x&granularity=year", "granularity", "'hour'"),
        ("/api/stats/series?event_type=x&time_zone=Mars/Base", "time_zone", "no time zone"),
        ("/api/stats/series?event_type=x&time_zone=../../etc/passwd", "time_zone", "no time zone"),
        (
            "/api/stats/series?event_type=x&granularity=hour&from=2020-01-01&to=2023-01-01",
            "from",
            "at most 400 days",
        ),
        (
            "/api/stats/series?event_type=x&from=0001-01-02&to=0001-01-05&compare=previous",
            "compare",
            "no period before",
        ),
        ("/api/stats/top?event_type=x&limit=0", "limit", "greater than or equal to 1"),
        ("/api/stats/top?event_type=x&fresh=maybe", "fresh", "boolean"),
        ("/api/users/%FF", "user_id", "is no UTF-8"),
        ("/api/users/%00", "user_id", "pattern"),
        ("/api/users/" + "u" * 257, "user_id", "at most 256 characters"),
        ("/api/properties/path/x/counts", "event_type", "is required"),
        ("/api/events?cursor=nonsense", "cursor", "none of ours"),
        ("/api/events?cursor=WyJ4Iiwx", "cursor", "none of ours"),
        ("/api/events?limit=5000", "limit", "less than or equal to 1000"),
        ("/api/stats/live?event_type=", "event_type", "at least 1 character"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, path: str, field: str, said: str) -> None:
    response = api.reader.get(path)

    assert response.status_code == 422
    assert error(response)["code"] == "invalid"
    assert error(response)["field"] == field
    assert said in error(response)["message"]


def test_unknown_paths_and_methods_are_answered_in_json(api: Api) -> None:
    unknown, wrong = api.reader.get("/api/nothing"), api.reader.post("/api/stats/count")

    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert error(unknown)["code"] == "not_found"
    assert error(wrong)["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", TABLES)
def test_every_table_is_answered_as_csv(services: Services, api: Api, path: str) -> None:
    count_events(services, event(user_id="u1", properties={"path": "x"}))
    by_format = api.reader.get(path + ("&" if "?" in path else "?") + "format=csv")
    by_accept = api.reader.get(path, headers={"Accept": "text/html, text/csv;q=0.9"})
    preferred = api.reader.get(path, headers={"Accept": "application/json, text/csv;q=0.9"})

    assert by_format.status_code == 200, by_format.text
    assert by_format.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_format.headers["content-disposition"].startswith("attachment")
    assert by_accept.content == by_format.content
    rows = list(csv.reader(io.StringIO(by_format.text)))
    assert len({len(row) for row in rows}) == 1
    assert preferred.headers["content-type"] == "application/json"


@pytest.mark.parametrize("accept", ["text/csvx", "text/csv;q=0", "*/*", ""])
def test_a_table_is_answered_in_json_where_csv_is_not_accepted(api: Api, accept: str) -> None:
    response = api.reader.get("/api/stats/count?event_type=x", headers={"Accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(services: Services, api: Api, formula: str) -> None:
    count_events(services, event(properties={"path": formula}))

    table = api.reader.get(
        "/api/stats/top?event_type=page_view&of=path&fresh=true&format=csv"
    ).content.decode()

    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert rows == [["value", "count"], [f"'{formula}", "1"]]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("  =1+1", "'  =1+1"),
        ("\u00a0@SUM(A1)", "'\u00a0@SUM(A1)"),
        ("a;=1+1", "a;'=1+1"),
        ("a; +1;-2", "a;' +1;'-2"),
        ("a\n=1", "a\n'=1"),
        ("a\t=1", "a\t'=1"),
        ("a=1", "a=1"),
        ("a;b-c", "a;b-c"),
    ],
)
def test_a_cell_of_a_csv_is_no_formula_in_a_spreadsheet_with_other_separators(
    services: Services, api: Api, cell: str, written: str
) -> None:
    count_events(services, event(properties={"path": cell}))

    table = api.reader.get(
        "/api/stats/top?event_type=page_view&of=path&fresh=true&format=csv"
    ).content.decode()

    assert list(csv.reader(io.StringIO(table, newline="")))[1] == [written, "1"]


@pytest.mark.parametrize("path", ["/api/stats/count/", "/api/events/", "/docs/", "/openapi.json/"])
def test_no_path_leads_to_the_host_that_a_client_names(api: Api, path: str) -> None:
    response = api.reader.get(path, headers={"Host": "evil.example"}, follow_redirects=False)

    assert response.status_code == 404
    assert "location" not in response.headers


@pytest.mark.parametrize("path", TABLES)
def test_an_answer_that_the_client_has_is_not_sent_again(
    services: Services, api: Api, path: str
) -> None:
    first = api.reader.get(path)
    tag = first.headers["etag"]
    same = api.reader.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
    as_csv = api.reader.get(path, headers={"If-None-Match": tag, "Accept": "text/csv"})

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == tag
    assert as_csv.status_code == 200
    assert first.headers["cache-control"].startswith("private, ")
    assert "Accept" in first.headers["vary"]


def test_a_changed_count_has_another_tag(services: Services, api: Api) -> None:
    path = "/api/stats/count?event_type=page_view&from=2025-03-14"
    tag = api.reader.get(path).headers["etag"]
    count_events(services, event())

    response = api.reader.get(path, headers={"If-None-Match": tag})

    assert response.status_code == 200
    assert response.json()["count"] == 1
    assert response.headers["cache-control"] == "private, no-cache"


def test_the_documentation_loads_nothing_from_elsewhere(api: Api) -> None:
    page = api.stranger.get("/docs")

    assert page.status_code == 200
    assert "://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js"):
        assert f"docs/{name}" in page.text
        assert api.stranger.get(f"/docs/{name}").status_code == 200
    assert api.stranger.get("/openapi.json").json()["info"]["title"] == "Analytics"
    assert api.stranger.get("/docs/nothing").status_code == 404


@pytest.fixture
def alone(own_servers: PrivateServers) -> Iterator[tuple[PrivateServers, Services]]:
    """Services on servers that the test may stop."""
    assert own_servers.redis_url is not None
    assert own_servers.postgres_url is not None
    services = connect(
        pipeline_options(Settings()), own_servers.redis_url, own_servers.postgres_url
    )
    configure(ProducerSettings(redis_url=own_servers.redis_url))
    migrate(services.engine)
    yield own_servers, services
    services.close()


@pytest.mark.parametrize("which", ["redis", "postgres"])
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_that_is_away_is_answered_with_503_in_seconds(
    alone: tuple[PrivateServers, Services], which: str, how: str
) -> None:
    import os
    import signal
    import time

    servers, services = alone
    assert servers.redis_url is not None
    dependencies = make_dependencies(services, servers.redis_url)
    create = dependencies.access_keys.create
    tokens = [
        create("read", f"reader {n}", may_forget=True, may_edit=True)[1] for n in range(_READERS)
    ]
    server = getattr(servers, which)
    with (
        served(dependencies) as origin,
        httpx.Client(base_url=origin, timeout=30, verify=NO_TLS) as client,
    ):
        headers = [{"Authorization": f"Bearer {token}"} for token in tokens]
        found = client.get("/api/stats/count?event_type=x", headers=headers[0])
        assert found.json()["count"] == 0
        pids = [server.pid]
        if which == "postgres":
            pids += _children(server.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)

        def ask(route: tuple[str, str], number: int) -> tuple[str, httpx.Response, float]:
            began_s = time.monotonic()
            reader = headers[number % _READERS]
            content = VIEW if route[1] == "/api/saved-views" else NOTE
            response = client.request(*route, content=content, headers=reader)
            return route[1], response, time.monotonic() - began_s

        # Others need the other server only.
        asked = [route for route in ROUTES if not route[1].startswith(READ_ONE[which])]
        try:
            with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
                answers = list(pool.map(ask, asked, range(len(asked))))
            for path, response, took_s in answers:
                assert response.status_code == 503, path
                assert int(response.headers["retry-after"]) >= 1
                assert error(response)["code"] == "unavailable"
                assert "127.0.0.1" not in response.text
                assert took_s < 20, path  # "a few seconds", on a machine that is busy
        finally:
            if how == "stopped":
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
    dependencies.redis.close()


def _children(pid: int) -> list[int]:
    from pathlib import Path

    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
