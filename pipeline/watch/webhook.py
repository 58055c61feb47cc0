"""Notices as JSON, posted to a URL."""

from __future__ import annotations

import json
import time
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pipeline.errors import NotDelivered
from pipeline.watch.notices import Notice

_TIMEOUT_S = 10.0
_PAUSES_S = (1.0, 2.0)
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Never: the answer is an error then."""


class Webhook:
    """Posts each notice, three times at most where the receiver does not take it."""

    name = "webhook"

    def __init__(self, url: str, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        """`url` may have a secret in it, and is never shown."""
        self._url, self._pauses_s = url, pauses_s
        self._opener = build_opener(_NoRedirects)

    def send(self, notice: Notice) -> None:
        """Post it. A receiver that took it and did not say so gets it again, with the same `id`.
        Raises `NotDelivered`."""
        body = json.dumps(notice.to_json()).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "analytics-pipeline"}
        request = Request(self._url, body, headers)
        for pause_s in (*self._pauses_s, None):
            try:
                with self._opener.open(request, timeout=_TIMEOUT_S):
                    return
            except HTTPError as error:
                said, is_final = f"it answers {error.code}", not _may_pass(error.code)
                error.close()
            except (OSError, HTTPException) as error:
                said, is_final = str(error) or type(error).__name__, False
            if pause_s is None or is_final:
                raise NotDelivered(
                    f"the webhook at {urlsplit(self._url).hostname} does not take a notice: {said};"
                    " see whether ANALYTICS_ALARM_WEBHOOK is right and its receiver runs"
                )
            time.sleep(pause_s)


def _may_pass(status: int) -> bool:
    return status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS
