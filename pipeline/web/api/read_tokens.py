"""Read tokens: the token of a request, and the dependencies of routes that need one."""

from __future__ import annotations

from fastapi import Request
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from pipeline.access.access_key import AccessKey
from pipeline.access.key_store import AccessKeyStore
from pipeline.errors import ServerUnavailable
from pipeline.web.errors import RequestRefused, Unauthorised, Unavailable


def find_bearer_token(request: Request) -> str:
    """The bearer token in the request's Authorization header; empty when there is none."""
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    return token if scheme.lower() == "bearer" else ""


async def check_read_token(access_keys: AccessKeyStore, token: str) -> AccessKey:
    """The read token's record. Raises `Unauthorised` for one that is not valid, `Unavailable`."""
    try:
        key = await access_keys.check_async("read", token) if token else None
    except ServerUnavailable as error:
        raise Unavailable("Redis does not answer; try again shortly") from error
    if key is None:
        raise Unauthorised(
            "this needs a valid read token, sent as `Authorization: Bearer rt_…`; "
            "`analytics keys create read` makes one"
        )
    return key


class ReadTokenRequired(HTTPBearer):
    """Lets a request with a valid read token pass, and puts its record into `request.state.key`.

    In the path `also_in_query` the token may stand in the query. As one of FastAPI's security
    schemes it is part of the OpenAPI document.
    """

    def __init__(self, access_keys: AccessKeyStore, also_in_query: str = "") -> None:
        super().__init__(scheme_name="read_token", description="A read token, `rt_…`")
        self._access_keys, self._also_in_query = access_keys, also_in_query

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        """FastAPI calls this before it parses the parameters."""
        token = find_bearer_token(request)
        if not token and request.url.path == self._also_in_query:
            token = request.query_params.get("token", "")
        request.state.key = await check_read_token(self._access_keys, token)


def require_erase_permission(request: Request) -> None:
    """Raise `RequestRefused` (403) unless the token was made to erase users. Depends on
    `ReadTokenRequired`."""
    if not request.state.key.may_forget:
        raise RequestRefused(
            403,
            "forbidden",
            "this token may only read; `analytics keys create read --allow-forget` makes one "
            "that may forget users",
        )


def require_edit_permission(request: Request) -> None:
    """Raise `RequestRefused` (403) unless the token was made to change annotations and saved views.
    Depends on `ReadTokenRequired`."""
    if not request.state.key.may_edit:
        raise RequestRefused(
            403,
            "forbidden",
            "this token may only read; `analytics keys create read --allow-edit` makes one that "
            "may change annotations and saved views",
        )
