"""What a page is: where it stands, what it reads, and with which template it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipeline.access.access_key import AccessKey
from pipeline.reading.event_types import TypeReader
from pipeline.reading.stats import Stats
from pipeline.services import Services
from pipeline.web.api.table_responses import CsvTable
from pipeline.web.dashboard.state import PageState
from pipeline.web.errors import InvalidParameter

Right = Literal["may_forget", "may_operate", "may_edit"]


@dataclass(frozen=True)
class Sources:
    """Where pages have their numbers from."""

    services: Services
    stats: Stats
    types: TypeReader


@dataclass(frozen=True)
class Asked:
    """What a page is asked for: the state of its URL, its own parameters, by whom and when."""

    state: PageState
    query: Mapping[str, str]
    viewer: AccessKey
    now: datetime
    """Aware, UTC."""
    origin: str
    """Where this server was reached, such as `https://stats.example`."""

    @property
    def card(self) -> str:
        """The only part of the page that is wanted; empty: all of it."""
        return self.query.get("card", "")

    def read_own(self, name: str, longest: int) -> str:
        """A parameter of the page's own, without spaces around; empty where it is left out. Raises
        `InvalidParameter`."""
        text = self.query.get(name, "").strip()
        if len(text) > longest or "\x00" in text:
            raise InvalidParameter(name, f"give at most {longest:,} characters, and no NUL")
        return text

    def wants(self, card: str) -> bool:
        """Whether this part has to be read."""
        return self.card in ("", card)


@dataclass(frozen=True)
class Page:
    """A page. `read` runs in a thread and returns what the template needs beside the frame, and as
    `status` that of the response, where it is not 200: of a form that was filled in wrongly."""

    path: str
    title: str
    template: str
    """Such as `overview/overview.html`, which extends `shell/base.html`."""
    read: Callable[[Sources, Asked], Mapping[str, Any]]
    parameters: tuple[str, ...] = ()
    """Its own, beside those of `PageState`."""
    is_in_navigation: bool = True
    is_scan: bool = False
    """Whether it goes through many rows."""
    needs_postgres: bool = True
    """Where it does not, it is answered while Postgres is away, and shows no saved views."""


@dataclass(frozen=True)
class Download:
    """A table as CSV, by the same parameters as a page."""

    path: str
    read: Callable[[Sources, Asked], CsvTable]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """A form that changes something. `act` runs in a thread with the fields of the form, and
    returns a sentence that the next page shows."""

    path: str
    right: Right
    act: Callable[[Sources, AccessKey, Mapping[str, str]], str]
    back: str
    """The path of the page that follows; the form's field `back` may add a query to it, or name
    the page of ours that the form is on."""
