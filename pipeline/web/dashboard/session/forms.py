"""The fields of a form that was posted: small, and nothing but text."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from pipeline.web.errors import RequestRefused, TooLarge

_MOST_BYTES = 64 * 1024
_MOST_FIELDS = 100
_MEDIA_TYPE = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """The fields by name, the last of each. Raises `RequestRefused` for what no form of ours is."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise RequestRefused(415, "no_form", f"send the form as {_MEDIA_TYPE}")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TooLarge.for_body(_MOST_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise RequestRefused(400, "no_form", "the form is no UTF-8, or has too many fields") from (
            error
        )
