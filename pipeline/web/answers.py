"""What clients are told, as JSON: `{"error": {"code", "message", "field"}}` where something is
wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pipeline.errors import PipelineError

RETRY_AFTER_S = 2
"""When to come back to a server whose Redis or Postgres is away."""

_encode = msgspec.json.Encoder().encode


class Refused(PipelineError):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`code` is for programs, `message` says what was wrong and what to do, `field` where."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.field, self.headers = field, dict(headers or {})

    def response(self) -> Response:
        """The answer to the client."""
        return error(self.status, self.code, str(self), field=self.field, headers=self.headers)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(_encode(content), status, headers, media_type="application/json")


def error(
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer that says what was wrong and what to do."""
    told = {"code": code, "message": message}
    if field is not None:
        told["field"] = field
    return json_response({"error": told}, status, headers)


def unauthorised(message: str) -> Refused:
    """The request brings no key that is valid here. HTTP Basic, which works too, is not offered:
    browsers would ask their users for a password."""
    headers = {"WWW-Authenticate": 'Bearer realm="analytics"'}
    return Refused(401, "unauthorised", message, headers=headers)


def unavailable(message: str) -> Refused:
    """A server that is needed does not answer; the client may come back."""
    return Refused(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_S)})


async def refused(_: Request, raised: Exception) -> Response:
    """Starlette's handler of `Refused`."""
    assert isinstance(raised, Refused)
    return raised.response()


async def http_error(_: Request, raised: Exception) -> Response:
    """Starlette's handler of what its routing refuses, such as an unknown path."""
    assert isinstance(raised, HTTPException)
    code = raised.detail.lower().replace(" ", "_")
    return error(raised.status_code, code, f"{raised.detail}; see /docs", headers=raised.headers)


async def fault(_: Request, raised: Exception) -> Response:
    """Starlette's handler of everything else: the log has the traceback, the client has none."""
    return error(500, "fault", "a fault of this server; its log says more")
