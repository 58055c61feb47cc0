"""The applications in `examples/servers`, started as its README says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import redis

from tests.helpers.applications.serving import counts_sent, port_for, request_all, running
from tests.helpers.support import ROOT
from tests.helpers.tracking import users

_EXAMPLES = ROOT / "examples" / "servers"
_STARTS = re.findall(r"^(?:gunicorn|uvicorn) .*", (_EXAMPLES / "README.md").read_text(), re.M)


@pytest.mark.parametrize("command", _STARTS)
def test_the_page_of_an_example_tracks_each_of_its_visitors(
    client: redis.Redis, redis_url: str, tmp_path: Path, command: str
) -> None:
    program, rest = command.split(maxsplit=1)
    bind = "--bind 127.0.0.1:PORT" if program == "gunicorn" else "--port PORT"
    port, arguments = port_for(f"{program} {bind} {rest}")
    settings = {
        "ANALYTICS_REDIS_URL": redis_url,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(_EXAMPLES))),
    }
    with running(arguments, tmp_path / "log", **settings) as server:
        request_all(server, port, "/products/p-42", users(20))
        server.end()
        assert counts_sent(client) == {("product_view", None): 20}, server.output


def test_uwsgi_reads_its_example(client: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    settings = (_EXAMPLES / "uwsgi.ini").read_text()
    port, [settings_here] = port_for("uwsgi.ini")
    file = tmp_path / settings_here
    file.write_text(settings.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    environment = {
        "ANALYTICS_REDIS_URL": redis_url,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(_EXAMPLES))),
    }
    with running(["uwsgi", str(file)], tmp_path / "log", **environment) as server:
        request_all(server, port, "/products/p-42", users(20))
        server.end()
        assert counts_sent(client) == {("product_view", None): 20}, server.output
        assert "start it with --enable-threads" not in server.output
