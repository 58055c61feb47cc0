"""Every error this package raises on purpose.

    PipelineError
    ├── InvalidEvent          an event breaks a rule of the wire contract (also a ValueError)
    ├── ConfigurationError    a setting, URL, server version or server option is wrong
    ├── ServerUnavailable     Redis or Postgres does not answer
    ├── EmbeddedServerError   a private server could not be started or kept
    ├── RedisWentBack         Redis shows an older state than Postgres has stored from it
    ├── CannotRebuild         the archive does not have all events of a day (pipeline.rebuild)
    └── TooMuchWaiting        more waits in the event log than can be compared (pipeline.held)

Each message says what was wrong, with which value, and what to do.
"""

from __future__ import annotations

import re

_SHOWN_CHARACTERS = 80


class PipelineError(Exception):
    """Base of all errors of this package."""


class InvalidEvent(PipelineError, ValueError):
    """An event breaks a rule of the wire contract; nothing of it was sent or counted."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        """`field` names the offending field, `reason` the rule and the remedy."""
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        # A field name may be the sender's own, with any characters in it and of any length.
        return f"{_cut(repr(self.field)[1:-1])}: {self.reason} (got {_cut(_shown(self.value))})"


class EventsNotAccepted(PipelineError, TimeoutError):
    """A tracker's events were not accepted in time: `events` of them are still in its buffer."""

    def __init__(self, events: int) -> None:
        super().__init__(
            f"{events} events were not accepted in time: look whether the broker can be reached, "
            "and call flush() or close() again"
        )
        self.events = events


class ConfigurationError(PipelineError):
    """A setting, a URL, a server's version or one of its options is wrong."""


class ServerUnavailable(PipelineError):
    """Redis or Postgres does not answer; nothing was changed, try again when it is back."""


class EmbeddedServerError(PipelineError):
    """A private server could not be started, or another process holds its directory."""


class RedisWentBack(PipelineError):
    """Redis numbers fewer claims than Postgres has stored: it was restored to an older state."""


def without_password(url: str) -> str:
    """A server's URL as a message may show it."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _shown(value: object) -> str:
    try:
        return ascii(value)
    except (RecursionError, ValueError):  # nested beyond measure; a number of thousands of digits
        return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
