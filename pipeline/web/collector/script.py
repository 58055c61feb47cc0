"""The browser script, `GET /analytics.js`: read once, answered from memory."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HEADERS = {
    # An hour, and a day more while the browser asks again in the background.
    "Cache-Control": "public, max-age=3600, stale-while-revalidate=86400",
    "Vary": "Accept-Encoding",
    # Pages of any site load it, those too that ask for isolation or check its digest.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


def script_routes() -> list[Route]:
    """The route of the browser script. Needs no key: a page's HTML holds it."""
    plain = _without_comments(_source()).encode()
    forms = {"identity": plain, "gzip": gzip.compress(plain, mtime=0)}
    tags = {
        # Strong, and so another for each encoding.
        encoding: f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        for encoding, body in forms.items()
    }

    async def analytics_js(request: Request) -> Response:
        encoding = "gzip" if _takes_gzip(request.headers.get("accept-encoding", "")) else "identity"
        headers = {**_HEADERS, "ETag": tags[encoding]}
        if encoding == "gzip":
            headers["Content-Encoding"] = "gzip"
        if _is_known(tags[encoding], request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(forms[encoding], headers=headers, media_type="text/javascript")

    return [Route("/analytics.js", analytics_js, methods=["GET"])]


def _source() -> str:
    return (
        resources.files("pipeline.web.collector.static").joinpath("analytics.js").read_text("utf-8")
    )


def _without_comments(source: str) -> str:
    """The script without the lines that are comments, and without indentation: half the bytes."""
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, or `*`, and not with a weight of 0."""
    weights = {}
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";q=")
        weights[name.strip()] = weight.strip() not in {"0", "0.0", "0.00", "0.000"}
    return weights.get("gzip", weights.get("*", False))


def _is_known(tag: str, if_none_match: str) -> bool:
    """Whether an If-None-Match lists the tag, by the weak comparison that RFC 9110 wants here."""
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return tag in known or "*" in known
