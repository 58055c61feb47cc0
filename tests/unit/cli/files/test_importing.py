"""Files to messages: reading, rejecting, gathering, and the ids that make an import repeatable."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.cli.files import importing
from pipeline.cli.files.formats.json_lines import parse_ndjson
from pipeline.cli.files.importing import Importer, LineIds, Report
from pipeline.cli.files.line_source import MAX_LINE_BYTES, Line, LineSource, open_lines
from pipeline.cli.files.stopping import StopSignals
from pipeline.errors import ServerUnavailable, UnreadableFile

EVENT = b'{"event_type": "sale", "timestamp": "2026-01-01T00:00:00Z"}'


@pytest.fixture
def report() -> Iterator[Report]:
    report = Report()
    yield report
    report.close()


def lines_of(content: bytes) -> list[Line]:
    return list(LineSource("test", io.BufferedReader(io.BytesIO(content)), len(content)))


def imported(content: bytes, report: Report, ids: LineIds | None = None) -> list[list[Any]]:
    """The messages that an import of `content` sends."""
    messages: list[list[Any]] = []
    Importer(parse_ndjson, messages.append, report, ids).run(lines_of(content))
    return messages


def event_ids(content: bytes, report: Report, salt: str = "ndjson") -> list[str]:
    messages = imported(content, report, LineIds(salt))
    return [event["event_id"] for events in messages for event in events]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_lines_are_numbered_and_lose_their_ends_whichever_these_are(packed: bool) -> None:
    content = b"one\r\ntwo\n\nfour"

    found = lines_of(gzip.compress(content) if packed else content)

    assert [(line.number, line.data) for line in found] == [
        (1, b"one"),
        (2, b"two"),
        (3, b""),
        (4, b"four"),
    ]


def test_a_file_of_several_gzip_members_is_read_to_its_end() -> None:
    found = lines_of(gzip.compress(b"one\ntw") + gzip.compress(b"o\n"))

    assert [line.data for line in found] == [b"one", b"two"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_too_long_for_a_message_is_passed_over_and_the_next_one_is_whole(end: bytes) -> None:
    found = lines_of(b"x" * MAX_LINE_BYTES + b"\n" + b"y" * (3 * MAX_LINE_BYTES) + b"\nlast" + end)

    assert found[0].data == b"x" * MAX_LINE_BYTES
    assert [(line.number, line.data) for line in found[1:]] == [(2, None), (3, b"last")]


def test_a_gzip_file_cut_short_gives_its_whole_lines_and_then_says_where_it_ends() -> None:
    packed = gzip.compress(b"".join(b"%d\n" % n for n in range(5_000)))
    found = []

    with pytest.raises(UnreadableFile, match="damaged or cut short after line"):
        for line in LineSource("log", io.BufferedReader(io.BytesIO(packed[:-2_000])), None):
            found.append(line.data)

    assert found
    assert found == [b"%d" % n for n in range(len(found))]


def test_whole_lines_before_a_fault_of_the_file_are_sent(report: Report) -> None:
    messages: list[list[Any]] = []

    def faulty() -> Iterator[Line]:
        yield Line(1, EVENT)
        raise UnreadableFile("cut short")

    with pytest.raises(UnreadableFile):
        Importer(parse_ndjson, messages.append, report).run(faulty())

    assert [len(events) for events in messages] == [1]
    assert report.sent == 1


def test_after_a_failed_send_nothing_more_is_sent(report: Report) -> None:
    tries = []

    def refuse(events: list[Any]) -> None:
        tries.append(len(events))
        raise ServerUnavailable("away")

    with pytest.raises(ServerUnavailable):
        Importer(parse_ndjson, refuse, report).run(lines_of((EVENT + b"\n") * 1_500))

    assert tries == [1_000]
    assert report.sent == 0


@pytest.mark.parametrize(("name", "message"), [("absent", "No such file"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UnreadableFile) as raised, open_lines(str(tmp_path / name)):
        pass

    assert message in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_a_message_holds_a_thousand_events(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "IDLE_AFTER_S", 60)  # else a busy machine sends a part
    messages = imported((EVENT + b"\n") * 2_001, report)

    assert [len(events) for events in messages] == [1_000, 1_000, 1]
    assert (report.lines, report.sent, report.rejected_count) == (2_001, 2_001, 0)


def test_a_message_stays_under_a_mebibyte(report: Report) -> None:
    large = json.dumps({"event_type": "sale", "properties": {"note": "é" * 16_000}}).encode()

    messages = imported((large + b"\n") * 80, report)

    assert report.sent == 80
    assert len(messages) > 1
    assert all(len(msgspec.json.encode(events)) <= 1024 * 1024 for events in messages)


def test_lines_that_are_no_event_are_reported_and_the_others_sent(report: Report) -> None:
    content = b"\n".join(
        [
            EVENT,
            b"{",
            b"",
            b'{"event_type": ""}',
            b"\xff\xfe",
            b"x" * (MAX_LINE_BYTES + 1),
            b'{"event_type": "sale", "colour": "red"}',
            EVENT,
        ]
    )

    messages = imported(content, report)

    assert sum(len(events) for events in messages) == report.sent == 2
    assert report.lines == 8
    reasons = {row["line"]: str(row["reason"]) for row in report.read_rejected()}
    assert list(reasons) == [2, 4, 5, 6, 7]
    assert reasons[2].startswith("not JSON")
    assert reasons[4].startswith("event_type:")
    assert reasons[5] == "not UTF-8: byte 0xff at column 1"
    assert reasons[6].startswith("longer than")
    assert reasons[7].startswith("colour: unknown field")


def test_a_byte_order_mark_before_the_first_line_is_passed_over(report: Report) -> None:
    imported(b"\xef\xbb\xbf" + EVENT + b"\n", report)

    assert (report.sent, report.rejected_count) == (1, 0)


def test_a_line_read_again_has_the_same_id_also_when_the_file_is_packed_or_has_grown(
    report: Report,
) -> None:
    content = (EVENT + b"\n") * 3

    first = event_ids(content, report)

    assert len(set(first)) == 3
    assert event_ids(gzip.compress(content), report) == first
    assert event_ids(content + EVENT, report)[:3] == first


def test_a_line_of_another_file_or_of_another_meaning_has_another_id(report: Report) -> None:
    first = event_ids(EVENT, report)

    assert event_ids(b"\n" + EVENT, report) != first
    assert event_ids(EVENT, report, salt="combined page_view") != first


def test_an_event_keeps_the_id_it_brings(report: Report) -> None:
    content = b'{"event_type": "sale", "event_id": "mine"}\n'

    assert event_ids(content, report) == ["mine"]


def test_what_was_read_of_a_pipe_that_stays_open_is_sent_while_it_waits() -> None:
    reading, writing = os.pipe()
    messages: list[list[Any]] = []
    sent = threading.Event()

    def send(events: list[Any]) -> None:
        messages.append(events)
        sent.set()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(EVENT + b"\n" + EVENT[:5])
            assert sent.wait(30), "the first line was not sent while the second was on its way"
            pipe.write(EVENT[5:] + b"\n")

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb", buffering=0) as raw, closing(Report()) as report:
        source = LineSource("pipe", raw, None)
        importer = Importer(parse_ndjson, send, report)
        source.on_idle(importer.flush)
        importer.run(source)
        writer.join()

    assert [len(events) for events in messages] == [1, 1]


@pytest.mark.parametrize("at", ["reading", "sending"])
def test_ctrl_c_sends_what_was_read_before_it_stops(at: str) -> None:
    messages: list[list[Any]] = []

    def read() -> Iterator[Line]:
        yield Line(1, EVENT)
        yield Line(2, EVENT)
        if at == "reading":
            raise KeyboardInterrupt

    def send(events: list[Any]) -> None:
        signal.raise_signal(signal.SIGINT)  # takes effect when the message is sent
        messages.append(events)

    with closing(Report()) as report:
        with pytest.raises(KeyboardInterrupt), StopSignals().postponed():
            Importer(parse_ndjson, send, report).run(read())

        assert [len(events) for events in messages] == [2]
        assert report.sent == 2


def test_lines_that_left_the_pipe_are_sent_when_ctrl_c_comes_while_one_of_them_is_worked_on() -> (
    None
):
    reading, writing = os.pipe()
    stop, messages = StopSignals(), list[list[Any]]()

    def parse(text: str) -> dict[str, Any] | None:
        if not messages:
            signal.raise_signal(signal.SIGINT)
            messages.append([])
        return parse_ndjson(text)

    with os.fdopen(writing, "wb", buffering=0) as pipe:
        pipe.write((EVENT + b"\n") * 3)
        with os.fdopen(reading, "rb", buffering=0) as raw, closing(Report()) as report:
            with pytest.raises(KeyboardInterrupt), stop.postponed():
                source = LineSource("pipe", raw, None, stop.while_waiting)
                Importer(parse, messages.append, report).run(source)
            assert (report.lines, report.sent) == (3, 3)


def test_ctrl_c_ends_the_wait_for_a_pipe_at_once() -> None:
    reading, writing = os.pipe()
    stop = StopSignals()
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with os.fdopen(writing, "wb"), os.fdopen(reading, "rb", buffering=0) as raw:
        timer.start()
        with pytest.raises(KeyboardInterrupt), stop.postponed():
            LineSource("pipe", raw, None, stop.while_waiting)
