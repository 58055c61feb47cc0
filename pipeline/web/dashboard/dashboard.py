"""How a page is answered: who asks, what the URL says, the numbers, and what is shown without."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.errors import (
    CountedByHour,
    InvalidCondition,
    InvalidQuestion,
    QuestionTooLarge,
    TooManyPeriods,
    UnsuitableTimeZone,
)
from pipeline.sharing.saved_views import SavedViews
from pipeline.web.api.threads import ThreadPools
from pipeline.web.dashboard.last_shown import LastShown, Place, Shown
from pipeline.web.dashboard.page import Action, Asked, Download, Page, Right, Sources
from pipeline.web.dashboard.paths import HOME, SIGN_IN
from pipeline.web.dashboard.session.cookies import clear_notice, read_notice, set_notice
from pipeline.web.dashboard.session.forms import read_form
from pipeline.web.dashboard.session.security import PAGE_HEADERS, check_same_origin
from pipeline.web.dashboard.session.viewers import Viewers
from pipeline.web.dashboard.shell.templates import render, render_block
from pipeline.web.dashboard.state import PageState, parse_state
from pipeline.web.errors import RequestRefused, Unavailable
from pipeline.web.headers import accepts_gzip

_PACKED_FROM, _PACKED_LEVEL = 4_096, 5
"""In bytes; and a level that takes a hundredth of the time that a page takes."""
RETRY_S = 5
"""When a page without its numbers is asked for again."""
_Answer = TypeVar("_Answer")
_UNANSWERABLE = (
    CountedByHour,
    InvalidCondition,
    InvalidQuestion,
    QuestionTooLarge,
    TooManyPeriods,
    UnsuitableTimeZone,
)
"""What is wrong with a question that the URL can ask."""
_RIGHTS: dict[Right, str] = {
    "may_forget": "--allow-forget",
    "may_operate": "--allow-operate",
    "may_edit": "--allow-edit",
}


class Dashboard:
    """Makes routes of pages. `pages` are those of the navigation, which fill it in their order."""

    def __init__(self, sources: Sources, threads: ThreadPools, viewers: Viewers) -> None:
        self.sources, self.threads, self.viewers = sources, threads, viewers
        self.pages: list[Page] = []
        self._shown = LastShown()

    def create_page(self, page: Page) -> Route:
        """The route of a page; it enters the navigation."""
        self.pages.append(page)
        return Route(page.path, self._guard(partial(self._show, page), page), methods=["GET"])

    def create_download(self, download: Download) -> Route:
        """The route of a table as CSV."""

        async def respond(request: Request, viewer: AccessKey) -> Response:
            asked = _ask(request, viewer, download.parameters)

            def read() -> Response:
                table = _answer(partial(download.read, self.sources, asked))
                name = {"Content-Disposition": f'attachment; filename="{table.name}.csv"'}
                return Response(table.encode(), 200, {**PAGE_HEADERS, **name}, "text/csv")

            return await self.threads.run_scan(viewer.id, read)

        return Route(download.path, self._guard(respond), methods=["GET"])

    def create_action(self, action: Action) -> Route:
        """The route of a form, which is followed by a page."""

        async def act(request: Request, viewer: AccessKey) -> Response:
            check_same_origin(request)
            _check_right(viewer, action.right)
            form = await read_form(request)
            work = partial(action.act, self.sources, viewer, form)
            said = await self.threads.run_job(viewer.id, work)
            self._shown.clear()  # it may show a user who is forgotten now
            response = RedirectResponse(
                self._find_next(action, form.get("back", "")), 303, PAGE_HEADERS
            )
            set_notice(request, response, said)
            return response

        return Route(action.path, self._guard(act), methods=["POST"])

    def _find_next(self, action: Action, back: str) -> str:
        """The page that follows a form: the one it was on, where it says so, and of ours only."""
        path, _, query = back.partition("?")
        if path not in {page.path for page in self.pages}:
            path = action.back
        return f"{path}?{query}" if query else path

    def create_route(
        self, path: str, respond: Callable[[Request, AccessKey], Awaitable[Response]]
    ) -> Route:
        """The route of anything else that a viewer may read: a stream, a file. `respond` is given
        the token of who asks."""
        return Route(path, self._guard(respond), methods=["GET"])

    def _guard(
        self,
        respond: Callable[[Request, AccessKey], Awaitable[Response]],
        page: Page | None = None,
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                viewer = await self.viewers.find(request)
            except Unavailable as outage:
                token_id = self.viewers.find_known(request)
                if page is None or token_id is None:
                    raise
                return self._show_last(page, request, token_id, outage)
            if viewer is None:
                return _ask_to_sign_in(request)
            return await respond(request, viewer)

        return guarded

    async def _show(self, page: Page, request: Request, viewer: AccessKey) -> Response:
        asked = _ask(request, viewer, (*page.parameters, "card"))
        run = self.threads.run_scan if page.is_scan else partial(self._run_lookup)
        try:
            return await run(viewer.id, partial(self._read, page, request, asked))
        except Unavailable as outage:
            return self._show_last(page, request, viewer.id, outage)

    async def _run_lookup(self, token_id: str, read: Callable[[], Response]) -> Response:
        return await self.threads.run_lookup(token_id, 0, read)

    def _read(self, page: Page, request: Request, asked: Asked) -> Response:
        """In a thread: rendering takes its time too."""
        cleared = self._shown.cleared
        values = _answer(partial(page.read, self.sources, asked))
        frame = self._frame(page, asked.state, asked.viewer, asked.now)
        frame |= _keep_own(page, asked.state, asked.query)
        if asked.card:
            block = render_block(page.template, f"card_{asked.card}", {**frame, **values})
            return _respond(request, block, 200, PAGE_HEADERS)
        if page.needs_postgres:
            frame["saved_views"] = SavedViews(self.sources.services.engine).list_all()
        notice = read_notice(request)
        body = render(page.template, {**frame, **values, "notice": notice})
        place = _place(page, asked.viewer.id, asked.query)
        self._shown.keep(place, Shown(values, asked.now, len(body)), cleared)
        response = _respond(request, body, values.get("status", 200), PAGE_HEADERS)
        if notice:
            clear_notice(response)
        return response

    def _show_last(
        self, page: Page, request: Request, token_id: str, outage: Unavailable
    ) -> Response:
        """The page with its last numbers and their time, or without any; it asks again."""
        now = datetime.now(UTC)
        query = dict(request.query_params)
        state = parse_state(query, now, (*page.parameters, "card"))
        shown = self._shown.find(_place(page, token_id, query))
        frame = self._frame(page, state, None, shown.at if shown else now)
        frame |= _keep_own(page, state, query)
        frame |= {"outage": outage.message.partition(";")[0], "retry_s": RETRY_S}
        frame["shown_at"] = shown.at if shown else None
        headers = {**PAGE_HEADERS, "Retry-After": f"{RETRY_S}"}
        if card := query.get("card"):
            # What the card shows stays, and says since when it is old.
            if shown is None:
                return Response(status_code=204, headers=headers)
            block = render_block(page.template, f"card_{card}", {**frame, **shown.values})
            return HTMLResponse(block, 503, headers)
        name = page.template if shown else "shell/outage.html"
        body = render(name, {**frame, **(shown.values if shown else {})})
        return HTMLResponse(body, 503, headers)

    def _frame(
        self, page: Page, state: PageState, viewer: AccessKey | None, now: datetime
    ) -> dict[str, Any]:
        """What the frame of every page needs."""
        return {
            "page": page,
            "pages": [one for one in self.pages if one.is_in_navigation],
            "paths": {one.path for one in self.pages},
            "state": state,
            "viewer": viewer,
            "now": now,
            "outage": "",
            "retry_s": 0,
            "shown_at": None,
            "notice": "",
            "saved_views": [],
        }


def _keep_own(page: Page, state: PageState, query: Mapping[str, str]) -> dict[str, Any]:
    """The page's own parameters, and what makes URLs of this page that keep them: `url(page=2)`,
    `url(own={"step": "signup"})`."""
    kept = {name: query[name] for name in page.parameters if query.get(name)}

    def url(own: Mapping[str, str] | None = None, **changes: Any) -> str:
        return state.url(page.path, {**kept, **(own or {})}, **changes)

    return {"own": kept, "url": url}


def _place(page: Page, token_id: str, query: Mapping[str, str]) -> Place:
    """Where the last numbers of a page are kept: a part of it is a part of them."""
    parameters = sorted((name, value) for name, value in query.items() if name != "card")
    return token_id, f"{page.path}?{urlencode(parameters)}"


def _ask(request: Request, viewer: AccessKey, parameters: Iterable[str]) -> Asked:
    """What a request asks for. Raises `InvalidParameter`."""
    query, now = dict(request.query_params), datetime.now(UTC)
    state = parse_state(query, now, parameters)
    return Asked(state, query, viewer, now, str(request.base_url).rstrip("/"))


def _answer(read: Callable[[], _Answer]) -> _Answer:
    try:
        return read()
    except _UNANSWERABLE as error:
        raise RequestRefused(422, "unanswerable", str(error)) from error


def _respond(request: Request, body: str, status: int, headers: Mapping[str, str]) -> Response:
    """A page or a part of one, packed where the browser takes that: the numbers of a long chart
    stand in it three times."""
    content, headers = body.encode(), {**headers, "Vary": "Cookie, Accept-Encoding"}
    if len(content) > _PACKED_FROM and accepts_gzip(request.headers.get("accept-encoding", "")):
        content, headers["Content-Encoding"] = gzip.compress(content, _PACKED_LEVEL), "gzip"
    return HTMLResponse(content, status, headers)


def show_error(refused: RequestRefused) -> Response:
    """A page that says what was wrong and what to do."""
    body = render("shell/error.html", {"refused": refused, "home": HOME})
    return HTMLResponse(body, refused.status, {**PAGE_HEADERS, **refused.headers})


def _ask_to_sign_in(request: Request) -> Response:
    wanted = request.url.path
    if request.method == "GET" and request.url.query:
        wanted += f"?{request.url.query}"
    url = f"{SIGN_IN}?next={quote(wanted, safe='/')}" if wanted != HOME else SIGN_IN
    if request.headers.get("hx-request") == "true":
        # A part of a page: the browser leaves all of it.
        return Response(status_code=204, headers={**PAGE_HEADERS, "HX-Redirect": url})
    return RedirectResponse(url, 303, PAGE_HEADERS)


def _check_right(viewer: AccessKey, right: Right) -> None:
    if not getattr(viewer, right):
        raise RequestRefused(
            403,
            "forbidden",
            f"this token may not do that; `analytics keys create read {_RIGHTS[right]}` makes one "
            "that may",
        )
