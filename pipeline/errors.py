"""Every error of the pipeline, in one tree.

    PipelineError
    ├── InvalidEvent              an event breaks a rule of the wire contract (also a ValueError)
    ├── InvalidConfiguration      a setting, URL, server version or server option is wrong
    ├── ServerUnavailable         Redis, Postgres or RabbitMQ does not answer, or not now
    ├── RedisWentBack             Redis shows an older state than Postgres has stored from it
    ├── EmbeddedServerFailed      a private server could not be started or kept
    │
    │   producer
    ├── EventsNotAccepted         a tracker's events wait in its buffer (also a TimeoutError)
    ├── NotFollowed               an event is accepted, and what follows it was not sent
    ├── OptionRefused             an event cannot be sent with an option (also a ValueError)
    ├── PublishUnconfirmed        the broker did not confirm a message: pipeline.producer.publisher
    │
    │   reading
    ├── InvalidCondition          a condition on properties cannot be read
    ├── InvalidQuestion           a funnel, a breakdown or a retention is asked for wrongly
    ├── QuestionTooLarge          an answer would have to read too much of the archive
    ├── TooManyReports            too many reports wait already
    │
    │   flushing
    ├── BatchesLeft               a flush leaves batches that could not be stored
    │
    │   reading
    ├── CountedByHour             an hour was counted as a whole, and a part of it is asked for
    ├── UnsuitableTimeZone        a time zone is unknown, or was not whole quarter hours from UTC
    │
    │   upkeep
    ├── CannotBackUp              Redis or Postgres cannot be copied into a backup
    ├── CannotRebuild             the archive does not have all events of a day
    ├── CannotRemoveType          the settings name an event type that is to be removed
    ├── CannotReplay              a dead letter is still no valid event
    ├── CannotRestore             a backup cannot be restored, or not there
    ├── NumbersUsedUp             there are more users than numbers for them
    ├── RowsHaveCome              old rows came while they were to be pruned
    ├── TooMuchWaiting            more waits in the event log than can be compared
    │
    │   reading
    ├── TooManyPeriods            a range has more periods than can be compared
    ├── TooManyValues             a property has more values than one answer adds up
    │
    │   watch
    ├── NotDelivered              a notice of an alarm was not taken (also a ServerUnavailable)
    │
    │   sharing
    ├── InvalidEntry              an annotation or a saved view cannot be kept as it is given
    │
    │   web
    ├── ClientGone                a client closed the connection before its request was complete
    ├── NoSuchAccessKey           there is no access key with this id
    ├── RequestRefused            a request is answered with an error: pipeline.web.errors
    │   ├── BodyTooSlow           408, a body did not arrive in time: pipeline.web.errors
    │   ├── EventRefused          400, an event breaks a rule: pipeline.web.errors
    │   ├── InternalFault         500, a fault of the web server: pipeline.web.errors
    │   ├── InvalidParameter      422, a parameter cannot be used: pipeline.web.errors
    │   ├── MethodNotAllowed      405, the route takes another method: pipeline.web.errors
    │   ├── NotServed             404, nothing is taken by this path: pipeline.web.errors
    │   ├── OriginNotAllowed      403, the key is not for pages of this origin: pipeline.web.errors
    │   ├── TooLarge              413, the body or its events exceed a limit: pipeline.web.errors
    │   ├── TooManyRequests       429, a rate limit is reached: pipeline.web.errors
    │   ├── Unauthorised          401, no valid access key was given: pipeline.web.errors
    │   └── Unavailable           503, a server does not answer: pipeline.web.errors
    │
    │   command line
    ├── AlreadyRunning            another `analytics up` or `watch` uses the same files
    ├── ImportStopped             an import did not reach its end
    ├── NodeSilent                a worker, or beat, has not said of late that it lives
    ├── NotCompared               an audit could not be made
    ├── NotCounted                the example events were sent, and no worker counted them
    ├── NotReady                  a started process does not get ready
    ├── RejectedLine              a line of a file is not an event
    └── UnreadableFile            a file cannot be read, or not to its end

A name says what went wrong and does not end in Error, the base's apart. A class stands here unless
only one room raises it, in many kinds, or it needs a library that an application which only sends
events does not load; then the drawing names its module. Each message says what was wrong, with
which value, and what to do.
"""

from __future__ import annotations

_SHOWN_CHARACTERS = 80


class PipelineError(Exception):
    """Base of all errors of the pipeline: catch it to catch every one of them."""


class InvalidEvent(PipelineError, ValueError):
    """An event breaks a rule of the wire contract; nothing of it was sent or counted."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        """`field` names the offending field, `reason` the rule and the remedy."""
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def in_list(self, position: int) -> InvalidEvent:
        """This error, of the event at a position of a list: its field names the position."""
        return InvalidEvent(f"events[{position}].{self.field}", self.value, self.reason)

    def __str__(self) -> str:
        # A field name may be the sender's own, with any characters in it and of any length.
        return f"{_cut(repr(self.field)[1:-1])}: {self.reason} (got {_cut(_show(self.value))})"


class InvalidConfiguration(PipelineError):
    """A setting, a URL, a server's version or one of its options is wrong: correct what the message
    names. Of settings it has one line for each that is wrong.
    """


class ServerUnavailable(PipelineError):
    """Redis, Postgres or RabbitMQ does not answer, or cannot do what it is asked now (Postgres is
    read-only, is full, is in the way of itself); try again when it can."""


class NotDelivered(ServerUnavailable):
    """The receiver of a notice of an alarm did not take it; it is sent again."""


class RedisWentBack(PipelineError):
    """Redis numbers fewer claims than Postgres has stored: it was restored to an older state.

    Nothing is flushed until `analytics accept-redis-state` accepts that state.
    """


class EmbeddedServerFailed(PipelineError):
    """A private server could not be started, or another process holds its directory; the message
    has the last lines of the server's log, or the process to end."""


# producer


class EventsNotAccepted(PipelineError, TimeoutError):
    """A tracker's events were not accepted in time: `events` of them are still in its buffer. Call
    `flush()` or `close()` again when the broker is back."""

    def __init__(self, events: int) -> None:
        super().__init__(
            f"{events} events were not accepted in time: look whether the broker can be reached, "
            "and call flush() or close() again"
        )
        self.events = events


class NotFollowed(PipelineError):
    """An event is accepted, and its callback, the next task of its chain, or its part of a chord
    could not be sent."""


class OptionRefused(PipelineError, ValueError):
    """An event is to be sent with an option of Celery's that would lose it, or that cannot be read;
    nothing was sent."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        """`option` is the name that `apply_async` takes, `reason` the rule and the remedy."""
        super().__init__(option, value, reason)
        self.option = option
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.option}: {self.reason} (got {_cut(_show(self.value))})"


# reading


class InvalidCondition(PipelineError, ValueError):
    """A condition on the properties of events cannot be read; the message names the position of
    what is wrong, and the remedy."""

    def __init__(self, position: int, reason: str) -> None:
        """`position` is that of the character, from 1 on; `reason` the rule and the remedy."""
        super().__init__(position, reason)
        self.position = position
        self.reason = reason

    def moved(self, characters: int) -> InvalidCondition:
        """This error, of a condition that begins so many characters into a longer text."""
        return InvalidCondition(self.position + characters, self.reason)

    def __str__(self) -> str:
        return f"character {self.position}: {self.reason}"


class InvalidQuestion(PipelineError, ValueError):
    """A funnel, a breakdown or a retention is asked for in a way that has no answer; the message
    names the parameter and the remedy."""

    def __init__(self, field: str, reason: str) -> None:
        """`field` names the parameter, `reason` the rule and the remedy."""
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class QuestionTooLarge(PipelineError):
    """To answer, more archived events would have to be read than may be, or for longer; the message
    says what to narrow. Nothing was changed."""


class TooManyReports(PipelineError):
    """Too many reports wait to be made; the message says whose. This one was not asked for."""


# flushing


class BatchesLeft(PipelineError):
    """A flush leaves `batches` that Postgres would not store: they are kept in Redis, counted by
    every read, and tried again by every flush. `stored` counters were stored beside them."""

    def __init__(self, batches: int, reason: str, stored: int) -> None:
        super().__init__(
            f"{batches} {'batch' if batches == 1 else 'batches'} of counters could not be stored "
            f"({reason}): correct that in Postgres and flush again; nothing is lost, reads count "
            f"them from Redis, and every flush tries them again. {stored} counters were stored"
        )
        self.batches, self.stored = batches, stored


# reading


class CountedByHour(PipelineError):
    """An hour was counted as a whole, by a version without quarter hours, and a part of it is asked
    for: rebuild its day from the archive, or ask for whole hours."""


class UnsuitableTimeZone(PipelineError):
    """A time zone is unknown, or was not whole quarter hours from UTC on a day asked for; choose
    another."""


# upkeep


class CannotBackUp(PipelineError):
    """Redis or Postgres cannot be copied; the message says why. What was written is no backup."""


class CannotRebuild(PipelineError):
    """The archive does not have all events of a day, so its counters cannot be made from it;
    nothing was changed."""


class CannotRemoveType(PipelineError):
    """An event type is named in the settings, or is one of ours: it is always counted under its own
    name. Nothing was changed."""


class CannotReplay(PipelineError):
    """A dead letter is still no valid event; it stays where it is. Drop it, or send a corrected
    event in its place."""


class CannotRestore(PipelineError):
    """A backup cannot be restored: it is none, or of another installation, or something is there
    already; the message says what, and what to do."""


class NumbersUsedUp(PipelineError):
    """All numbers of users were given; days are no longer sealed, and users not erased. Nothing was
    changed."""


class RowsHaveCome(PipelineError):
    """Rows of days that are about to be pruned have come since their users were noted: they stay
    until the next time."""


class TooMuchWaiting(PipelineError):
    """More waits in the event log than can be compared in one step: archive it first."""


# reading


class TooManyPeriods(PipelineError):
    """A range has more periods than one answer has; ask for fewer days, or longer periods."""


class TooManyValues(PipelineError):
    """A property has more values in a range than one answer adds up; ask for fewer days."""


# sharing


class InvalidEntry(PipelineError, ValueError):
    """An annotation or a saved view cannot be kept as it is given; the message names the field and
    the remedy. Nothing was changed."""

    def __init__(self, field: str, reason: str) -> None:
        """`field` names what is wrong, `reason` the rule and the remedy."""
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


# web


class ClientGone(PipelineError):
    """The client closed the connection before its request was complete: no client waits for an
    answer."""


class NoSuchAccessKey(PipelineError):
    """There is no access key with this id: `analytics keys list` shows their ids."""


# command line


class AlreadyRunning(PipelineError):
    """Another `analytics up` runs on this data directory, or another `analytics watch` with this
    file: end it, or give another."""


class ImportStopped(PipelineError):
    """An import did not reach its end; the message says how far it came and how to go on."""


class NodeSilent(PipelineError):
    """A worker, or beat, has not said of late that it lives."""


class NotCompared(PipelineError):
    """An audit could not be made; the message says why. Nothing is known to differ."""


class NotCounted(PipelineError):
    """The example events were sent, and no worker counted them in time; its log says why."""


class NotReady(PipelineError):
    """A started process does not get ready; the message has the last lines of its log."""


class RejectedLine(PipelineError):
    """A line of a file is not an event; the lines around it are not concerned."""


class UnreadableFile(PipelineError):
    """A file cannot be read, or not to its end. Lines already sent stay sent."""


def _show(value: object) -> str:
    try:
        return ascii(value)
    except (RecursionError, ValueError):  # nested beyond measure; a number of thousands of digits
        return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
