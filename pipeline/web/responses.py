"""Responses in JSON, errors among them: `{"error": {"code", "message", "field"}}`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pipeline.web.errors import InternalFault, RequestRefused

encode_json = msgspec.json.Encoder().encode


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response in JSON."""
    return Response(encode_json(content), status, headers, media_type="application/json")


def error_content(refused: RequestRefused) -> object:
    """What an error response says, before it is encoded."""
    return {"error": refused.details()}


def error_response(refused: RequestRefused) -> Response:
    """A response that says what was wrong and what to do."""
    return json_response(error_content(refused), refused.status, refused.headers)


async def _handle_refused(_: Request, raised: Exception) -> Response:
    assert isinstance(raised, RequestRefused)
    return error_response(raised)


async def _handle_http_exception(_: Request, raised: Exception) -> Response:
    """What Starlette's routing refuses, such as an unknown path."""
    assert isinstance(raised, HTTPException)
    code = raised.detail.lower().replace(" ", "_")
    message = f"{raised.detail}; see /docs"
    return error_response(RequestRefused(raised.status_code, code, message, headers=raised.headers))


async def _handle_fault(_: Request, raised: Exception) -> Response:
    return error_response(InternalFault())


EXCEPTION_HANDLERS: dict[
    int | type[Exception], Callable[[Request, Exception], Coroutine[Any, Any, Response]]
] = {
    RequestRefused: _handle_refused,
    HTTPException: _handle_http_exception,
    Exception: _handle_fault,
}
"""How an application turns exceptions into responses."""
