"""A visitor of a site, without JavaScript: follows links and presses buttons by their text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from tests.helpers.api_server import NO_TLS

_FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.DOTALL)


class Visitor:
    """Begins at the first page of an origin, with a cookie jar of its own."""

    def __init__(self, origin: str, cookies: Mapping[str, str] | None = None) -> None:
        self._client = httpx.Client(
            base_url=origin, cookies=dict(cookies or {}), follow_redirects=True, verify=NO_TLS
        )
        self.answer = self._client.get("/")

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self._client.cookies)

    @property
    def path(self) -> str:
        """Where the visitor is."""
        return self.answer.url.path

    def click(self, text: str) -> None:
        """Follow the link with this text."""
        found = re.search(f'<a href="([^"]+)">{text}</a>', self.answer.text)
        assert found is not None, f"no link {text!r} on {self.path}:\n{self.answer.text}"
        self.answer = self._client.get(found[1])

    def press(self, text: str) -> None:
        """Send the form whose button has this text."""
        forms = _FORM.findall(self.answer.text)
        found = [form for form in forms if f">{text}</button>" in form[1]]
        assert found, f"no button {text!r} on {self.path}:\n{self.answer.text}"
        [(action, form)] = found
        fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form))
        self.answer = self._client.post(action, data=fields)

    def close(self) -> None:
        """Leave."""
        self._client.close()
