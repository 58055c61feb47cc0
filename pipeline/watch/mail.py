"""Notices as mail, through an SMTP server."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

from pipeline.errors import NotDelivered
from pipeline.watch.notices import Notice

_TIMEOUT_S = 20.0


class Mail:
    """Sends each notice to some addresses.

    `url` is smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://…. Over smtp:// the connection is
    encrypted where the server offers it (STARTTLS), and always where there is a login.
    """

    name = "mail"

    def __init__(self, url: str, recipients: tuple[str, ...], sender: str | None = None) -> None:
        """`sender` is the address in From; without it, one of this machine."""
        self._url, self._recipients = urlsplit(url), recipients
        self._sender = sender or f"analytics@{socket.getfqdn()}"

    def send(self, notice: Notice) -> None:
        """Send it, in one try. A server that took it and did not say so gets it again, with the
        same Message-ID. Raises `NotDelivered`."""
        try:
            with self._connect() as server:
                server.send_message(self._write(notice))
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(
                f"the mail server at {self._url.hostname} does not take a notice: {error}; see "
                "whether ANALYTICS_ALARM_SMTP_URL and ANALYTICS_ALARM_MAIL_TO are right"
            ) from error

    def _connect(self) -> smtplib.SMTP:
        host, port = self._url.hostname or "localhost", self._url.port or 0
        if self._url.scheme == "smtps":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=_TIMEOUT_S)
        try:
            self._introduce(server)
        except BaseException:
            server.close()
            raise
        return server

    def _introduce(self, server: smtplib.SMTP) -> None:
        url = self._url
        if url.scheme == "smtp":
            server.ehlo()
            if url.username:
                server.starttls(context=ssl.create_default_context())
            elif server.has_extn("starttls"):
                # Of no secret: whose certificate that is is not asked, as between mail servers.
                server.starttls()
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))

    def _write(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = notice.subject
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Date"] = format_datetime(notice.at)
        message["Message-ID"] = f"<{notice.id.replace(':', '.')}@analytics-pipeline>"
        message.set_content(f"{notice.what}\n\n{notice.remedy}\n\n{notice.text}\n")
        return message
