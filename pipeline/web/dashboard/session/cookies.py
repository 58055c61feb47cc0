"""The cookie that keeps a browser signed in."""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

from pipeline.access.sessions import SESSION_S
from pipeline.web.dashboard.session.security import SECURE_PREFIX, find_port, is_plain_loopback

_PLAIN_NAME = "analytics-session"
_NAME = f"{SECURE_PREFIX}{_PLAIN_NAME}"
"""Browsers take it over TLS alone, for this host alone, and let no other host set it."""


def read_cookie(request: Request) -> str:
    """The text of the session; empty where there is none."""
    found = request.cookies.get(_find_name(request))
    return request.cookies.get(_find_name(request, with_port=False), "") if found is None else found


def set_cookie(request: Request, response: Response, text: str) -> None:
    """Have the browser keep the text."""
    _set(request, response, _find_name(request), text, SESSION_S)


def clear_cookie(request: Request, response: Response) -> None:
    """Have the browser forget it."""
    for name in {_find_name(request), _find_name(request, with_port=False)} & {*request.cookies}:
        _set(request, response, name, "", 0)


def _set(request: Request, response: Response, name: str, text: str, max_age_s: int) -> None:
    response.set_cookie(
        name,
        text,
        max_age=max_age_s,
        path="/",
        secure=not is_plain_loopback(request),
        httponly=True,
        samesite="strict",
    )


def _find_name(request: Request, *, with_port: bool = True) -> str:
    """Browsers keep cookies by host, whatever the port: installations beside each other would sign
    viewers out of one another. A name without the port is of an earlier version."""
    name = _PLAIN_NAME if is_plain_loopback(request) else _NAME
    port = find_port(request) if with_port else None
    return f"{name}-{port}" if port else name


_NOTICE = "analytics-notice"
_NOTICE_S = 20
_LONGEST_NOTICE = 500


def set_notice(request: Request, response: Response, text: str) -> None:
    """Have the next page say what a form has done."""
    response.set_cookie(
        _NOTICE,
        quote(text[:_LONGEST_NOTICE]),
        max_age=_NOTICE_S,
        path="/dashboard",
        secure=not is_plain_loopback(request),
        httponly=True,
        samesite="strict",
    )


def read_notice(request: Request) -> str:
    """What the form before has done, empty where there was none: text as the browser sent it."""
    return unquote(request.cookies.get(_NOTICE, ""))[:_LONGEST_NOTICE]


def clear_notice(response: Response) -> None:
    """Have it said once."""
    response.delete_cookie(_NOTICE, path="/dashboard")
