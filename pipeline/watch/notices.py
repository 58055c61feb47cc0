"""What is said of an alarm: that it is raised, or that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

Status = Literal["raised", "cleared"]


@dataclass(frozen=True)
class Notice:
    """An alarm of an installation, which its prefix names. `what` and `remedy` are sentences;
    `since` and `at` are aware times: when it began, and of this notice; `page` is the runbook."""

    alarm: str
    status: Status
    gravity: str
    what: str
    remedy: str
    since: datetime
    at: datetime
    page: str
    installation: str

    @property
    def id(self) -> str:
        """The same when this notice is sent again, as one is whose receiver did not confirm it."""
        return f"{self.installation}{self.alarm}:{self.since.timestamp():.0f}:{self.status}"

    @property
    def subject(self) -> str:
        """In a few words."""
        return f"[analytics] {self.alarm} {self.status}"

    @property
    def text(self) -> str:
        """For people; chat services show a member of this name."""
        if self.status == "cleared":
            return f"{self.subject}: over since {_show(self.at)}. It was: {self.what}"
        page = f" ({self.page})" if self.page else ""
        return f"{self.subject}: {self.what} {self.remedy}{page}"

    def to_json(self) -> Mapping[str, Any]:
        """All of it, for a webhook."""
        return {
            **vars(self),
            "since": self.since.isoformat(),
            "at": self.at.isoformat(),
            "id": self.id,
            "text": self.text,
        }


class Sender(Protocol):
    """A way to send notices. `name` is unique among them, and kept over restarts."""

    name: str

    def send(self, notice: Notice) -> None:
        """Send it, within some seconds. Raises `NotDelivered`."""


def _show(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
