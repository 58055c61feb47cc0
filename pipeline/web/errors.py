"""Requests that are answered with an error: one class for each status and code, drawn at the top of
`pipeline.errors`.

`RequestRefused` itself serves for what only one route can say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline.errors import PipelineError

RETRY_AFTER_S = 2
"""When to try again while Redis or Postgres is away."""
_CLOSE = {"Connection": "close"}
"""Where the rest of the body will not be read."""


class RequestRefused(PipelineError):
    """A request is answered with an error."""

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

    def details(self) -> dict[str, str]:
        """`code`, `message` and, where one is known, `field`, as the response names them."""
        details = {"code": self.code, "message": self.message}
        return details if self.field is None else {**details, "field": self.field}


class EventRefused(RequestRefused):
    """An event breaks a rule of the wire contract, or of the format it came in."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(400, "invalid_event", message, field=field)


class Unauthorised(RequestRefused):
    """The request has no valid access key. The challenge does not offer HTTP Basic, which works
    too: browsers would ask their users for a password."""

    def __init__(self, message: str) -> None:
        challenge = {"WWW-Authenticate": 'Bearer realm="analytics"'}
        super().__init__(401, "unauthorised", message, headers=challenge)


class OriginNotAllowed(RequestRefused):
    """The access key is not for pages of this origin."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "origin_not_allowed", message)


class NotServed(RequestRefused):
    """Nothing is taken by this path."""

    def __init__(self, message: str) -> None:
        super().__init__(404, "not_found", message)


class MethodNotAllowed(RequestRefused):
    """The route takes another method: `method`, or OPTIONS."""

    def __init__(self, method: str) -> None:
        allow = {"Allow": f"{method}, OPTIONS"}
        super().__init__(405, "method_not_allowed", f"use {method}", headers=allow)


class BodyTooSlow(RequestRefused):
    """The body comes too slowly."""

    def __init__(self, least_bytes: int, window_s: float) -> None:
        rate = f"{least_bytes} bytes in each {window_s:g} s"
        message = f"the body comes too slowly; send at least {rate}, or fewer events"
        super().__init__(408, "too_slow", message, headers=_CLOSE)


class TooLarge(RequestRefused):
    """The body, or what its events take, exceeds a limit."""

    @classmethod
    def for_body(cls, max_bytes: int) -> TooLarge:
        """The body is larger than what this route takes."""
        message = f"the body is larger than {max_bytes} bytes; send fewer or smaller events"
        return cls(413, "too_large", message, headers=_CLOSE)

    @classmethod
    def for_message(cls, size_bytes: int, max_bytes: int) -> TooLarge:
        """The events of a request do not fit one message."""
        reason = f"the events take {size_bytes} bytes; at most {max_bytes} fit a request"
        return cls(413, "too_large", f"{reason}; send several")

    @classmethod
    def for_count(cls, events: int, max_events: int) -> TooLarge:
        """A request holds more events than one message may."""
        reason = f"{events} events; a request holds at most {max_events}"
        return cls(413, "too_many_events", f"{reason}; send several")


class InvalidParameter(RequestRefused):
    """A parameter cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(422, "invalid", f"{field}: {reason}", field=field)


class TooManyRequests(RequestRefused):
    """A rate limit is reached: `what` names it, `wait_s` says when to try again."""

    def __init__(self, what: str, wait_s: float) -> None:
        seconds = str(math.ceil(wait_s))
        message = f"too many {what}; try again in {seconds} s"
        super().__init__(429, "too_many", message, headers={"Retry-After": seconds})


class InternalFault(RequestRefused):
    """A fault of this server: the log has the traceback, the client gets none of it."""

    def __init__(self) -> None:
        super().__init__(500, "fault", "a fault of this server; its log says more")


class Unavailable(RequestRefused):
    """A server that is needed does not answer; the client may try again."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_S)})
