"""What a server listens on, and how many connections the limit of open files leaves room for."""

from __future__ import annotations

import errno
import logging
import resource
import socket
from typing import Any

import pytest

from pipeline.errors import InvalidConfiguration
from pipeline.web.server.file_limit import FileBudget, divide_file_limit
from pipeline.web.server.sockets import listen_on

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to", "budget"),
    [
        (20_000, 20_000, None, FileBudget(8_000, 640)),
        (INFINITE, INFINITE, None, FileBudget(8_000, 640)),
        (1_024, 524_288, 9_280, FileBudget(8_000, 640)),
        (1_024, INFINITE, 9_280, FileBudget(8_000, 640)),
        (1_024, 4_096, 4_096, FileBudget(3_072, 512)),
        (1_024, 1_024, 1_024, FileBudget(768, 128)),
        (100, 100, 100, FileBudget(50, 25)),
    ],
)
def test_the_limit_of_open_files_is_raised_and_divided(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    raised_to: int | None,
    budget: FileBudget,
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits[0]))
    with caplog.at_level(logging.WARNING, "uvicorn.error"):
        assert divide_file_limit(8_000) == budget
    assert raised == ([] if raised_to is None else [raised_to])
    assert bool(caplog.records) == (budget.connections < 8_000)


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InvalidConfiguration, match=rf":{port}, address already in use: give"):
            listen_on("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"nothing can be served on {host}:0"):
        listen_on(host, 0)


def test_a_machine_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(InvalidConfiguration, match=r"no IPv6, and 0\.0\.0\.0 takes IPv4"):
        listen_on("::", 0)


def test_a_name_of_both_protocols_gets_a_socket_of_each() -> None:
    found = {one[4][0] for one in socket.getaddrinfo("localhost", 0)}
    listening = listen_on("localhost", 0)
    assert {one.getsockname()[0] for one in listening} == found
    for one in listening:
        one.close()
