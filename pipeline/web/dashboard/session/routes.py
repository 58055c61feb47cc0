"""Signing in with a read token or by a link, and signing out."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.web.dashboard.paths import HOME, SIGN_IN, SIGN_OUT
from pipeline.web.dashboard.session.cookies import clear_cookie, set_cookie
from pipeline.web.dashboard.session.forms import read_form
from pipeline.web.dashboard.session.security import (
    PAGE_HEADERS,
    check_same_origin,
    is_plain_loopback,
)
from pipeline.web.dashboard.session.viewers import Viewers
from pipeline.web.dashboard.shell.templates import render

SIGN_IN_LINK = "/dashboard/sign-in/{code}"
_LONGEST_NEXT = 4_000


def create_session_routes(viewers: Viewers) -> list[Route]:
    """The form, where it is sent, the link, and the way out."""

    async def show_form(request: Request) -> Response:
        if await viewers.find(request) is not None:
            wanted = _find_next(request.query_params.get("next", ""))
            return RedirectResponse(wanted, 303, PAGE_HEADERS)
        return _show_form(request, request.query_params.get("next", ""))

    async def sign_in(request: Request) -> Response:
        check_same_origin(request)
        form = await read_form(request)
        wanted = form.get("next", "")
        key = await viewers.check_token(form.get("token", "").strip())
        if key is None:
            return _show_form(request, wanted, is_wrong=True)
        return await _begin(request, key, _find_next(wanted))

    async def sign_in_by_link(request: Request) -> Response:
        """The code is good once, so it may stand in a URL; what comes after it may not."""
        if request.method == "HEAD":  # of a program that looks at links before people do
            return Response(headers=PAGE_HEADERS)
        code = request.path_params["code"]
        token_id = await viewers.run(request, partial(viewers.sessions.take_sign_in, code))
        key = await viewers.find_token(token_id) if token_id else None
        if key is None:
            if await viewers.find(request) is not None:
                return RedirectResponse(HOME, 303, PAGE_HEADERS)
            return _show_form(request, "", is_used_up=True)
        return await _begin(request, key, HOME)

    async def sign_out(request: Request) -> Response:
        check_same_origin(request)
        await viewers.end(request)
        response = RedirectResponse(SIGN_IN, 303, PAGE_HEADERS)
        clear_cookie(request, response)
        return response

    async def _begin(request: Request, key: AccessKey, url: str) -> Response:
        text = await viewers.run(request, partial(viewers.sessions.start, key))
        response = RedirectResponse(url, 303, PAGE_HEADERS)
        set_cookie(request, response, text)
        return response

    return [
        Route(SIGN_IN, show_form, methods=["GET"]),
        Route(SIGN_IN, sign_in, methods=["POST"]),
        Route(SIGN_IN_LINK, sign_in_by_link, methods=["GET"]),
        Route(SIGN_OUT, sign_out, methods=["POST"]),
    ]


def _show_form(
    request: Request, wanted: str, *, is_wrong: bool = False, is_used_up: bool = False
) -> Response:
    values = {
        "next": wanted[:_LONGEST_NEXT],
        "is_wrong": is_wrong,
        "is_used_up": is_used_up,
        # Then the browser would drop the cookie, and the form would come again without a word.
        "needs_tls": request.url.scheme == "http" and not is_plain_loopback(request),
    }
    status = 401 if is_wrong or is_used_up else 200
    return HTMLResponse(render("session/sign_in.html", values), status, PAGE_HEADERS)


def _find_next(wanted: str) -> str:
    """Where to go after signing in: to a page of ours, wherever a link says."""
    path = wanted.partition("?")[0]
    is_ours = (path == HOME or path.startswith(f"{HOME}/")) and "\\" not in wanted
    return wanted if is_ours and wanted.isprintable() else HOME
