"""Who asks: the read token of a request, and the dependencies of routes that need one."""

from __future__ import annotations

from fastapi import Request
from fastapi.security import HTTPBearer

from pipeline.errors import ServerUnavailable
from pipeline.web.access import Access, AccessKey
from pipeline.web.answers import Refused, unauthorised, unavailable


def token_of(request: Request) -> str:
    """What stands behind `Bearer` in the request; empty when nothing does."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def checked(access: Access, token: str) -> AccessKey:
    """The read token's record. Raises `Refused` for one that is not valid."""
    try:
        key = await access.check_async("read", token) if token else None
    except ServerUnavailable as error:
        raise unavailable("Redis does not answer; try again shortly") from error
    if key is None:
        raise unauthorised(
            "this needs a valid read token, sent as `Authorization: Bearer rt_…`; "
            "`analytics keys create read` makes one"
        )
    return key


class Reader(HTTPBearer):
    """Lets a request with a valid read token pass, and says whose it is in `request.state.key`.

    In the path `also_in_query` the token may stand in the query. As one of FastAPI's security
    schemes it is part of the OpenAPI document.
    """

    def __init__(self, access: Access, also_in_query: str = "") -> None:
        super().__init__(scheme_name="read_token", description="A read token, `rt_…`")
        self._access, self._also_in_query = access, also_in_query

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        """FastAPI calls this before it looks at the parameters."""
        token = token_of(request)
        if not token and request.url.path == self._also_in_query:
            token = request.query_params.get("token", "")
        request.state.key = await checked(self._access, token)


def may_forget(request: Request) -> None:
    """Raise `Refused` (403) unless the token was made to forget users. Depends on `Reader`."""
    if not request.state.key.may_forget:
        raise Refused(
            403,
            "forbidden",
            "this token may only read; `analytics keys create read --allow-forget` makes one "
            "that may forget users",
        )
