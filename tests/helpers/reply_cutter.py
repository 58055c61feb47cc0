"""A way to a server on which one answer is lost: the request is carried out, and the connection cut
before the answer has come through."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

_CHUNK_BYTES = 65_536
_TRY_AGAIN = b"-NOSCRIPT"  # of a script that the server does not know: nothing was carried out


class ReplyCutter:
    """Listens on `port` of 127.0.0.1 and passes everything on to the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._marks: tuple[bytes, ...] = ()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = 0
        """How many answers were lost."""
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_the_answer_to(self, *marks: bytes) -> None:
        """The next request that holds the last of the marks, on a connection on which requests with
        the others came before it, gets no answer."""
        self._marks = marks

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except ConnectionError:  # it is down
                    client.close()
                    continue
                link = _Link(self, client, server)
                for run in (link.requests, link.answers):
                    threading.Thread(target=run, daemon=True).start()

    def due(self, requests: Sequence[bytes]) -> bool:
        """Whether the answer to the last of the requests of a connection is the one to be lost."""
        if not self._marks:
            return False
        *before, last = self._marks
        earlier = requests[:-1]
        return last in requests[-1] and all(any(m in one for one in earlier) for m in before)

    def answered(self) -> None:
        """That answer has come, and is lost."""
        self._marks = ()
        self.cut += 1


class _Link:
    """One connection."""

    def __init__(self, cutter: ReplyCutter, client: socket.socket, server: socket.socket) -> None:
        self._cutter, self._client, self._server = cutter, client, server
        self._struck = False
        self._requests: list[bytes] = []

    def requests(self) -> None:
        for data in _read(self._client):
            self._requests.append(data)
            self._struck = self._struck or self._cutter.due(self._requests)
            with contextlib.suppress(OSError):
                self._server.sendall(data)
        self._end()

    def answers(self) -> None:
        for data in _read(self._server):
            if self._struck and not data.startswith(_TRY_AGAIN):
                self._cutter.answered()
                break
            self._struck = False
            with contextlib.suppress(OSError):
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _read(end: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        while data := end.recv(_CHUNK_BYTES):
            yield data
