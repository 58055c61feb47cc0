"""Lines of a file to `track_events` messages; lines that are no event are reported."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime

import msgspec

from pipeline.cli.files.formats.detection import decode_line
from pipeline.cli.files.formats.web_request import EventObject, LineParser
from pipeline.cli.files.line_source import IDLE_AFTER_S, MAX_LINE_BYTES, Line
from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import InvalidEvent, RejectedLine, UnreadableFile
from pipeline.event.model import Event

# What surrounds and separates the events of a message, generously.
_ENVELOPE_BYTES = 4 * 1024
_SEPARATOR_BYTES = 2
_SPOOLED_BYTES = 1024 * 1024


class Report:
    """What an import did so far. Many rejected lines wait in a temporary file, not in memory."""

    def __init__(self) -> None:
        self.lines = 0
        self.sent = 0
        self.rejected_count = 0
        self.days: tuple[date, date] | None = None
        """The first and the last day (UTC) of events; None: there was none."""
        self._rejected = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes it
            _SPOOLED_BYTES, "w+", encoding="utf-8"
        )

    def reject(self, number: int, reason: str) -> None:
        """Note that line `number` is no event."""
        self.rejected_count += 1
        json.dump({"line": number, "reason": reason}, self._rejected)
        self._rejected.write("\n")

    def note_day(self, day: date) -> None:
        """Note that an event is of this day."""
        first, last = self.days or (day, day)
        self.days = min(first, day), max(last, day)

    def read_rejected(self) -> Iterator[dict[str, object]]:
        """Every rejected line in the order of the file: `{"line": n, "reason": text}`."""
        self._rejected.seek(0)
        for row in self._rejected:
            yield json.loads(row)

    def close(self) -> None:
        """Drop the temporary file."""
        self._rejected.close()


class LineIds:
    """Event ids made of what a file holds up to a line, so that a line read again has the same id.

    A file that has grown keeps the ids of its old lines, and packing it changes nothing.
    """

    def __init__(self, salt: str) -> None:
        """`salt` tells apart imports of one file that mean different events."""
        self._read = hashlib.blake2b(salt.encode(), digest_size=16)

    def compute(self, line: Line) -> str:
        """The id of the next line; every line must pass here, in order."""
        self._read.update(b"\n" if line.data is None else line.data + b"\n")
        return f"{self._read.hexdigest()}:{line.number}"


class Importer:
    """Sends the events of lines in as few messages as the wire contract allows."""

    def __init__(
        self,
        parse: LineParser,
        send: Callable[[list[EventObject]], object],
        report: Report,
        ids: LineIds | None = None,
    ) -> None:
        """`send` publishes a list of events and returns once the broker has them."""
        self._parse = parse
        self._send = send
        self._report = report
        self._ids = ids
        self._waiting: list[EventObject] = []
        self._waiting_bytes = 0
        self._due_at_s = math.inf

    def run(self, lines: Iterable[Line]) -> None:
        """Send every line that is an event.

        When reading or sending fails, the error is raised on; `Report.sent` then counts what the
        broker acknowledged, and every whole line read before a fault of the file, or before Ctrl-C
        (see `StopSignals`), has been sent.
        """
        try:
            for line in lines:
                self._report.lines = line.number
                self._take(line)
                if time.monotonic() > self._due_at_s:
                    self.flush()
        except (UnreadableFile, KeyboardInterrupt):
            self.flush()
            raise
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if not self._waiting:
            return
        self._send(self._waiting)
        self._report.sent += len(self._waiting)
        self._waiting = []
        self._waiting_bytes = 0
        self._due_at_s = math.inf

    def _take(self, line: Line) -> None:
        event_id = self._ids.compute(line) if self._ids is not None else None
        try:
            event = self._parse_event(line, event_id)
        except (RejectedLine, InvalidEvent) as error:
            self._report.reject(line.number, str(error))
            return
        if event is None:
            return
        size = len(msgspec.json.encode(event)) + _SEPARATOR_BYTES
        full = self._waiting_bytes + size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES
        if full or len(self._waiting) == MAX_EVENTS_PER_MESSAGE:
            self.flush()
        if not self._waiting:
            self._due_at_s = time.monotonic() + IDLE_AFTER_S
        self._waiting.append(event)
        self._waiting_bytes += size

    def _parse_event(self, line: Line, event_id: str | None) -> EventObject | None:
        """The checked event of a line, None for a blank line or one that describes the others."""
        if line.data is None:
            raise RejectedLine(f"longer than {MAX_LINE_BYTES} bytes, the most a message may hold")
        # Windows programs put a byte order mark before the first line.
        data = line.data.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.data
        text = decode_line(data)
        if not text.strip():
            return None
        event = self._parse(text)
        if event is None:
            return None
        if event_id is not None:
            event.setdefault("event_id", event_id)
        checked = Event.from_dict(event, now=datetime.now(UTC))
        self._report.note_day(checked.timestamp.date())
        return checked.to_dict()
