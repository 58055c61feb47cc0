"""Raises alarms once, and clears them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pipeline.errors import NotDelivered, PipelineError
from pipeline.upkeep.condition.alarms import BY_NAME
from pipeline.upkeep.condition.findings import Finding
from pipeline.watch.notices import Notice, Sender, Status
from pipeline.watch.raised import Raised, RaisedFile

_SHORTEST_REST_S = 15.0
_LONGEST_REST_S = 300.0

logger = logging.getLogger(__name__)

Found = Mapping[str, Sequence[Finding]]


class Watcher:
    """Compares what is found with what was told, and sends what is new. Each sender is told of an
    alarm once, and once that it is over; one that takes nothing now is tried again later."""

    def __init__(
        self, installation: str, senders: Sequence[Sender], file: RaisedFile, for_s: float
    ) -> None:
        """`installation` is its prefix. An alarm is raised that was found for `for_s` seconds."""
        self._installation, self._senders, self._file = installation, senders, file
        self._for_s = for_s
        self._rests_until_s: dict[str, float] = {}
        self._rest_s: dict[str, float] = {}
        self._alarms = file.read()

    def update(self, found: Found, now_s: float) -> list[str]:
        """Send what has changed; returns the names of the alarms that are raised. `found` is what
        `find_alarms` returns, `now_s` Unix time."""
        for name, findings in found.items():
            what, remedy = (" ".join(parts) for parts in zip(*map(_say, findings), strict=True))
            new = Raised(now_s, BY_NAME[name].gravity, what, remedy)
            self._alarms.setdefault(name, new)
        for name in [name for name in self._alarms if name not in found]:
            self._note(name, "cleared", now_s)
            self._tell_all(name, "cleared", now_s)
            if not self._alarms[name].told:
                del self._alarms[name]
        raised = [name for name in found if now_s - self._alarms[name].since_s >= self._for_s]
        for name in raised:
            self._note(name, "raised", now_s)
            self._tell_all(name, "raised", now_s)
        self._file.write(self._alarms)
        return raised

    @property
    def owes(self) -> list[str]:
        """The senders that could not tell something yet."""
        return sorted(self._rests_until_s)

    def _note(self, name: str, status: Status, now_s: float) -> None:
        """Put it in the log, once."""
        is_raised = status == "raised"
        if self._alarms[name].is_raised != is_raised:
            self._alarms[name].is_raised = is_raised
            logger.warning("%s", self._make_notice(name, status, now_s).text)

    def _tell_all(self, name: str, status: Status, now_s: float) -> None:
        alarm = self._alarms[name]
        for sender in self._senders:
            if (sender.name in alarm.told) == (status == "raised"):
                continue
            if now_s < self._rests_until_s.get(sender.name, 0):
                continue
            if not self._tell(sender, self._make_notice(name, status, now_s), now_s):
                continue
            if status == "raised":
                alarm.told.append(sender.name)
            else:
                alarm.told.remove(sender.name)
            self._file.write(self._alarms)
        if status == "cleared":  # nor is there anything to clear for a sender that is gone
            alarm.told = [one for one in alarm.told if one in {one.name for one in self._senders}]

    def _tell(self, sender: Sender, notice: Notice, now_s: float) -> bool:
        try:
            sender.send(notice)
        except NotDelivered as error:
            rest_s = self._rest_s.get(sender.name, _SHORTEST_REST_S)
            self._rest_s[sender.name] = min(2 * rest_s, _LONGEST_REST_S)
            self._rests_until_s[sender.name] = now_s + rest_s
            logger.warning("%s; tried again in %.0f s", error, rest_s)
            return False
        self._rest_s.pop(sender.name, None)
        self._rests_until_s.pop(sender.name, None)
        return True

    def _make_notice(self, name: str, status: Status, now_s: float) -> Notice:
        one = self._alarms[name]
        since, now = (datetime.fromtimestamp(at_s, UTC) for at_s in (one.since_s, now_s))
        page = BY_NAME[name].page if name in BY_NAME else ""
        return Notice(
            name, status, one.gravity, one.what, one.remedy, since, now, page, self._installation
        )


def watch(
    watcher: Watcher,
    find: Callable[[], Found],
    every_s: float,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Look every so often, for ever: whatever fails, such as a disk that takes no state, is in the
    log, and the next look is a new try."""
    while True:
        began_s = time.monotonic()
        try:
            watcher.update(find(), time.time())
        except PipelineError as error:
            logger.error("%s", error)
        except Exception:
            logger.exception("the pipeline could not be looked at, which is tried again")
        wait(max(0.0, every_s - (time.monotonic() - began_s)))


def _say(finding: Finding) -> tuple[str, str]:
    return finding.what, finding.remedy
