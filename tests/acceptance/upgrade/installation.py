"""Takes up what an earlier version left: `installation/`, which `make_installation.py` made."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers
from pipeline.services import Services, connect
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads

LEFT = Path(__file__).parent / "installation"
EXPECTED = json.loads((LEFT / "expected.json").read_text())
COUNT_BY = {"page_view": ["path"]}
LOGGED = ["page_view", "order", "old"]

_STOPPED_FOR = timedelta(minutes=2)
_HALF_WINDOW_MS = 43_200 * 1000


def accepted(*, waiting: bool = True) -> Iterable[Seen]:
    """The events that the old version accepted, without duplicates; all, or those it counted."""
    for one in EXPECTED["events"]:
        if waiting or not one["waits"]:
            at = datetime.fromisoformat(one["at"])
            yield Seen(one["user"], one["path"], at, one["event_type"])


def take_up(data_dir: Path) -> None:
    """Make `data_dir` what the old version left two minutes ago, and start today's servers in it
    once. Before any worker runs, every event that the old version counted is read once.

    The files of the Postgres cluster, 40 MB, are not kept: a dump of its content stands for them.
    Postgres is of the same major version before and after, and reads its own files; the password of
    the cluster is that of the old `credentials.json`.
    """
    by_ms = round((time.time() - _STOPPED_FOR.total_seconds()) * 1000) - EXPECTED["stopped_at_ms"]
    data_dir.mkdir(mode=0o711)
    for name in ("credentials.json", "servers.json", "web-keys.json"):
        shutil.copy(LEFT / name, data_dir)
        (data_dir / name).chmod(0o600)
    files = data_dir / "redis" / "appendonlydir"
    shutil.copytree(LEFT / "redis" / "appendonlydir", files)
    for base in files.glob("*.base.aof"):
        base.write_bytes(_later(base.read_bytes(), by_ms))
    with PrivateServers.start(data_dir) as servers:
        with psycopg.connect(str(servers.postgres_url).replace("+psycopg", "")) as connection:
            connection.execute((LEFT / "postgres.sql").read_bytes())
        with closing(open_services(servers.redis_url, servers.postgres_url)) as services:
            for tag in services.redis.zrange(services.keys.unacked_index, 0, -1):
                services.redis.zincrby(services.keys.unacked_index, by_ms / 1000, tag)
            assert_reads(services, Truth(accepted(waiting=False)))


def open_services(redis_url: str | None, postgres_url: str | None) -> Services:
    """Today's services with the settings that the old version ran with."""
    assert redis_url is not None
    assert postgres_url is not None
    options = pipeline_options(Settings(count_by=COUNT_BY, event_log=LOGGED))
    return connect(options, redis_url, postgres_url)


def _later(file: bytes, by_ms: int) -> bytes:
    """The append-only file as if all of it had been written so much later: lifetimes end later, and
    so does the window of event ids, of which each set is named by its half."""
    stopped_ms = EXPECTED["stopped_at_ms"]
    halves = (stopped_ms + by_ms) // _HALF_WINDOW_MS - stopped_ms // _HALF_WINDOW_MS

    def moved(by: int) -> Any:
        return lambda found: found[1] + str(int(found[2]) + by).encode()

    file = re.sub(rb"(PEXPIREAT\r\n\$\d+\r\n[^\r]*\r\n\$13\r\n)(\d+)", moved(by_ms), file)
    file = re.sub(rb"(TIME\r\n\$13\r\n)(\d+)", moved(by_ms), file)
    return re.sub(rb"(seen:(?:event|task):)(\d+)", moved(halves), file)
