"""`/dashboard/assets/…`: files that are read once, answered from memory, and kept by browsers.

The name of a file has a digest of its bytes, so that it can be kept for ever, and a new version is
another file. While an upgrade goes on, a page of one version may ask a process of the other: it
gets the file as that has it, and does not keep it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.web.headers import NO_SNIFFING, accepts_gzip

PATH = "/dashboard/assets"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("dashboard.css", "dashboard.js", "charts.js", "live.js", "vendored.htmx.js", "icon.svg")
_NAME = re.compile(r"(?P<stem>[a-z.]+)\.(?P<digest>[0-9a-f]{12})\.(?P<kind>[a-z]+)")
_FOR_EVER = "public, max-age=31536000, immutable"
_FOR_NOW = "no-store"


class _Asset(NamedTuple):
    digest: str
    plain: bytes
    packed: bytes
    media_type: str


def find_asset_url(name: str) -> str:
    """The URL of a file, such as `dashboard.css`."""
    stem, _, kind = name.rpartition(".")
    return f"{PATH}/{stem}.{_read_all()[name].digest}.{kind}"


def create_asset_route() -> Route:
    """The route of all files. Needs no session: they hold no numbers."""

    async def asset(request: Request) -> Response:
        found = _NAME.fullmatch(request.path_params["name"])
        file = _read_all().get(f"{found['stem']}.{found['kind']}") if found else None
        if found is None or file is None:
            return Response(status_code=404)
        headers = {
            "Cache-Control": _FOR_EVER if found["digest"] == file.digest else _FOR_NOW,
            "Vary": "Accept-Encoding",
            **NO_SNIFFING,
        }
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(file.packed, headers=headers, media_type=file.media_type)
        return Response(file.plain, headers=headers, media_type=file.media_type)

    return Route(PATH + "/{name}", asset, methods=["GET"])


@cache
def _read_all() -> dict[str, _Asset]:
    return {name: _read(name) for name in _FILES}


def _read(name: str) -> _Asset:
    body = resources.files(__package__).joinpath(name).read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:12]
    return _Asset(digest, body, gzip.compress(body, mtime=0), _TYPES[name.rpartition(".")[2]])
