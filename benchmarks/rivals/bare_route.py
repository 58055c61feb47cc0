"""The least that a web server can do with an event: parse the body, answer, and forget it."""

from __future__ import annotations

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_decode = msgspec.json.Decoder().decode


async def _parse(request: Request) -> Response:
    _decode(await request.body())
    return Response(b'{"success": true}', media_type="application/json")


async def _answer(_: Request) -> Response:
    return Response(b'{"count": 1}', media_type="application/json")


app = Starlette(
    routes=[Route("/v1/track", _parse, methods=["POST"]), Route("/count", _answer, methods=["GET"])]
)
