"""What monitors see of events that come the way of ordinary tasks: not their arguments."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

NOT_SHOWN = "(not shown: personal data)"


class EventRequest(Request):
    """A task whose arguments no task event, `inspect` answer, page of Flower or log line holds.

    A sender writes them into the message a second time, as text for monitors: users and properties.
    """

    def __init__(
        self, message: Any, *args: Any, headers: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        shown = {"argsrepr": NOT_SHOWN, "kwargsrepr": NOT_SHOWN}
        headers = {**(headers or message.headers), **shown}
        super().__init__(message, *args, headers=headers, **kwargs)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `inspect` answers with."""
        found: dict[str, Any] = super().info(safe=True)
        return found
