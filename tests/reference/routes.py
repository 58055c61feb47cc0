"""The page of the HTTP API: every route of the web server, with its parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.routing import Route

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.redis.client import redis_client
from pipeline.services import connect
from pipeline.web.api.app import create_stats_api
from pipeline.web.api.threads import ThreadPools
from pipeline.web.collector.library_settings import create_settings
from pipeline.web.collector.routes import create_formats
from pipeline.web.collector.static.script import create_script_route
from pipeline.web.dashboard.app import create_dashboard
from pipeline.web.dependencies import WebDependencies, WebOptions
from pipeline.web.health import create_health_routes
from tests.reference.markdown import code, first_paragraph, flow, page, table

_NOWHERE = "redis://127.0.0.1:1/0", "postgresql+psycopg://127.0.0.1:1/none"
"""Nothing here connects."""
_BY_FAMILY = {
    "segment": "Segment's and RudderStack's API",
    "posthog": "PostHog's API",
    "plausible": "Plausible's API",
    "single_events": "one event",
}
_ABOUT_HEALTH = {
    "/livez": "200 while the process answers",
    "/readyz": "200 when what it needs answers; `for`: `collecting` or `reading`, else both",
    "/version": "the versions of the package and of the tables",
}


def make() -> str:
    """The page."""
    with _dependencies() as (dependencies, threads):
        api = create_stats_api(dependencies, threads).openapi()
        health = create_health_routes(dependencies)
        dashboard = create_dashboard(dependencies, threads).routes
        collector = list(_collector_rows())
    return page(
        "HTTP API",
        'What `analytics web` serves. Errors are `{"error": {"code", "message", "field"}}`: '
        "[errors](errors.md).",
        "## Collector\n\nTakes events, with a write key; guide: "
        "[sending over HTTP](../guides/sending/http.md). Any path may follow `/k/KEY`.\n\n"
        + table(("route", "takes", "at most", "answers"), collector),
        "## Health\n\nNo key; guide: [health](../guides/deploying/health.md).\n\n"
        + table(("route", "answers"), [_health_row(route) for route in health]),
        "## Stats API\n\nReads, with a read token; guide: "
        "[reading over HTTP](../guides/reading/http.md).\n\n" + flow(api["info"]["description"]),
        *_operations(api),
        "## Dashboard\n\nPages for people who have signed in; guide: "
        "[dashboard](../guides/dashboard/README.md).\n\n"
        + table(("route", "methods"), _page_rows(dashboard)),
    )


@contextmanager
def _dependencies() -> Iterator[tuple[WebDependencies, ThreadPools]]:
    redis_url, postgres_url = _NOWHERE
    services = connect(pipeline_options(Settings.model_construct()), redis_url, postgres_url, None)
    client = redis_client(redis_url, 1.0)
    access = AccessKeyStore(client, services.keys)
    threads = ThreadPools(client, services.engine)
    try:
        yield WebDependencies(services, client, access, WebOptions()), threads
    finally:
        threads.close()
        services.close()
        client.close()


def _collector_rows() -> Iterator[tuple[str, str, str, str]]:
    for path, found in create_formats().items():
        parse = getattr(found.parse, "func", found.parse)
        family = parse.__module__.rpartition(".")[2]
        body = "the pixel" if found.media_type == b"image/gif" else code(found.body.decode())
        size = f"{found.max_bytes // 1024} KiB" if found.method == "POST" else ""
        yield f"`{found.method} {path}`", _BY_FAMILY[family], size, f"{found.status}, {body}"
    for path, asked in create_settings().items():
        yield f"`{asked.methods[0]} {path}`", "what libraries ask for", "", "settings, flags"
    script = create_script_route()
    yield f"`GET {script.path}`", "the script for web sites", "", "200"


def _health_row(route: Route) -> tuple[str, str]:
    return f"`GET {route.path}`", _ABOUT_HEALTH[route.path]


def _page_rows(routes: Any) -> list[tuple[str, str]]:
    found: dict[str, set[str]] = {}
    for route in routes:
        found.setdefault(route.path, set()).update(route.methods or ())
    return [(code(path), ", ".join(sorted(of - {"HEAD"}))) for path, of in found.items()]


def _operations(api: dict[str, Any]) -> Iterator[str]:
    for path, methods in api["paths"].items():
        for method, one in methods.items():
            text = one.get("description") or one.get("summary", "")
            parts = [f"### {method.upper()} {path}", flow(text)]
            rows = [_parameter_row(parameter) for parameter in one.get("parameters", ())]
            if rows:
                head = ("parameter", "in", "default", "meaning")
                parts.append(table(head, rows))
            if "requestBody" in one:
                content = one["requestBody"]["content"]
                parts.append(_body(api, content["application/json"]["schema"]))
            answers = (f"{status} {one['description']}" for status, one in one["responses"].items())
            parts.append(f"Answers: {'; '.join(answers)}.")
            yield "\n\n".join(parts)


def _body(api: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    rows = [
        (code(name), one.get("type", ""), first_paragraph(one.get("description")))
        for name, one in schema["properties"].items()
    ]
    return table(("field of the JSON body", "type", "meaning"), rows)


def _parameter_row(parameter: dict[str, Any]) -> tuple[str, str, str, str]:
    schema = parameter["schema"]
    default = schema.get("default")
    shown = "" if default is None else code(json.dumps(default).strip('"'))
    required = " (required)" if parameter.get("required") and parameter["in"] == "query" else ""
    meaning = first_paragraph(parameter.get("description") or schema.get("description"))
    return code(parameter["name"]), f"{parameter['in']}{required}", shown, meaning
