"""A webhook takes a notice as JSON, a mail server as a message; what is not taken is an error."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_string
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline.errors import NotDelivered
from pipeline.watch.mail import Mail
from pipeline.watch.notices import Notice
from pipeline.watch.webhook import Webhook

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTICE = Notice(
    "beat_silent", "raised", "late", "No beat.", "Start it.", NOW, NOW, "page.md", "analytics:"
)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A webhook that answers with these, one after the other; its URL, and what it was sent."""
    left, requests = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(left.pop(0))
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/secret", requests


def test_a_webhook_is_posted_all_of_a_notice() -> None:
    with answering(204) as (url, requests):
        Webhook(url).send(NOTICE)
    [(path, body)] = requests
    assert path == "/secret"
    assert json.loads(body) == {
        "alarm": "beat_silent",
        "status": "raised",
        "gravity": "late",
        "what": "No beat.",
        "remedy": "Start it.",
        "since": "2026-03-01T12:00:00+00:00",
        "at": "2026-03-01T12:00:00+00:00",
        "page": "page.md",
        "installation": "analytics:",
        "id": "analytics:beat_silent:1772366400:raised",
        "text": "[analytics] beat_silent raised: No beat. Start it. (page.md)",
    }


def test_a_webhook_that_fails_for_a_moment_is_tried_again() -> None:
    with answering(503, 429, 200) as (url, requests):
        Webhook(url, (0, 0)).send(NOTICE)
    assert len(requests) == 3


@pytest.mark.parametrize("statuses", [(404,), (302,), (500, 500, 500)])
def test_a_webhook_that_does_not_take_it_is_an_error_without_its_secret(
    statuses: tuple[int, ...],
) -> None:
    with (
        answering(*statuses) as (url, requests),
        pytest.raises(NotDelivered, match=rf"127\.0\.0\.1 .* {statuses[0]}") as raised,
    ):
        Webhook(url, (0, 0)).send(NOTICE)
    assert "secret" not in str(raised.value)
    assert len(requests) == len(statuses)


def test_a_webhook_that_is_not_there_is_an_error() -> None:
    with pytest.raises(NotDelivered, match="refused"):
        Webhook("http://127.0.0.1:1/", (0, 0)).send(NOTICE)


class MailServer(socketserver.TCPServer):
    """Speaks as much SMTP as a mail takes; `messages` has what was sent to whom."""

    allow_reuse_address = True

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], str]] = []
        super().__init__(("127.0.0.1", 0), _MailHandler)


class _MailHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        recipients: list[str] = []
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode().strip():
            line = line.upper() if len(line) == 4 else line  # a command alone
            if line.upper().startswith("RCPT TO:"):
                recipients.append(line[8:].strip("<>"))
            if line == "DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b"".join(iter(self.rfile.readline, b".\r\n")).decode()
                self.server.messages.append((recipients, text))  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if line == "QUIT" else b"250 well\r\n")
            if line == "QUIT":
                return


def test_a_mail_server_is_given_a_message() -> None:
    server = MailServer()
    with serving(server):
        mail = Mail(f"smtp://127.0.0.1:{server.server_address[1]}", ("a@shop.example", "b@x.org"))
        mail.send(NOTICE)
    [(recipients, text)] = server.messages
    message = message_from_string(text)
    assert recipients == ["a@shop.example", "b@x.org"]
    assert message["Subject"] == "[analytics] beat_silent raised"
    assert message["Message-ID"] == "<analytics.beat_silent.1772366400.raised@analytics-pipeline>"
    assert "No beat." in message.get_payload()


def test_a_login_is_not_sent_over_a_connection_that_is_not_encrypted() -> None:
    server = MailServer()
    with serving(server), pytest.raises(NotDelivered, match="STARTTLS"):
        Mail(f"smtp://u:pw@127.0.0.1:{server.server_address[1]}", ("a@x.org",)).send(NOTICE)
    assert server.messages == []


def test_a_mail_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(NotDelivered, match="refused"):
        Mail("smtp://127.0.0.1:1", ("a@x.org",)).send(NOTICE)
