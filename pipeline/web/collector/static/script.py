"""The browser script, `GET /analytics.js`: read once, answered from memory."""

from __future__ import annotations

import gzip
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.web.headers import NO_SNIFFING, accepts_gzip, make_etag, matches_etag

_HEADERS = {
    # An hour, and a day more while the browser asks again in the background.
    "Cache-Control": "public, max-age=3600, stale-while-revalidate=86400",
    "Vary": "Accept-Encoding",
    # Pages of any site load it, those too that ask for isolation or check its digest.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    **NO_SNIFFING,
}


def create_script_route() -> Route:
    """The route of the browser script. Needs no key: a page's HTML has it."""
    plain = _strip_comments(_read_source()).encode()
    bodies = {"identity": plain, "gzip": gzip.compress(plain, mtime=0)}
    etags = {encoding: make_etag(body) for encoding, body in bodies.items()}

    async def analytics_js(request: Request) -> Response:
        accepted = request.headers.get("accept-encoding", "")
        encoding = "gzip" if accepts_gzip(accepted) else "identity"
        headers = _HEADERS | {"ETag": etags[encoding]}
        if encoding == "gzip":
            headers["Content-Encoding"] = "gzip"
        if matches_etag(etags[encoding], request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(bodies[encoding], headers=headers, media_type="text/javascript")

    return Route("/analytics.js", analytics_js, methods=["GET"])


def _read_source() -> str:
    return (
        resources.files("pipeline.web.collector.static").joinpath("analytics.js").read_text("utf-8")
    )


def _strip_comments(source: str) -> str:
    """The script without the lines that are comments, and without indentation: half the bytes."""
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))
