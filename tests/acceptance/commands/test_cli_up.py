"""`analytics up` and every command against it, as a user at a terminal has them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from pipeline import server_addresses
from pipeline.redis.keys import Keys
from tests.acceptance.drivers.command import Analytics, Up, rows_of
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, eventually
from tests.reference.command_lines import PAGES_RUN

pytestmark = pytest.mark.timeout(120)

DAY = "2026-01-31"


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    """A port that another program has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory, taken_port: int) -> Analytics:
    settings = {"FLOWER_PORT": str(taken_port), "FLUSH_INTERVAL_S": "3600"}
    settings |= {"METRICS_PORT": str(free_port()), "ALARM_WEBHOOK": "http://127.0.0.1:1/"}
    return Analytics(tmp_path_factory.mktemp("a user's directory"), settings)


@pytest.fixture(scope="module")
def running(analytics: Analytics) -> Iterator[Up]:
    """The one `analytics up --example` of these tests."""
    up = analytics.up("--example")
    yield up
    up.stop()


@pytest.fixture(scope="module")
def up(running: Up, analytics: Analytics) -> Up:
    """The same, with some events that are counted."""
    assert running.process.poll() is None
    events = [
        {"event_type": "page_view", "user_id": user, "properties": {"path": path}}
        for user, path in (("u1", "/a"), ("u1", "/b"), ("u2", "/a"))
    ]
    send(analytics, *[{**event, "timestamp": f"{DAY}T10:30:00Z"} for event in events])
    eventually(lambda: count(analytics, "page_view", "--date", DAY) == 3)
    return running


def send(analytics: Analytics, *events: dict[str, Any], options: tuple[str, ...] = ()) -> Any:
    """Import events; returns the report."""
    file = analytics.directory / "events.ndjson"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return analytics.json("import", str(file), "--format", "ndjson", *options)


def count(analytics: Analytics, event_type: str, *days: str) -> int:
    return int(analytics.json("stats", "count", event_type, *days)["count"])


def test_it_shows_what_runs_where_and_the_counts_of_the_example_events(
    up: Up, analytics: Analytics, taken_port: int
) -> None:
    said = up.said()

    names = ", ".join(row[0] for row in rows_of(said))
    assert "redis, postgres, worker events1, worker flush, beat, watch, flower, web" in names
    assert ["example_page_view", "3", "3"] in rows_of(said)
    assert ["example_product_click", "2", "2"] in rows_of(said)
    assert f"port {taken_port} is taken" in said
    assert f"--data-dir {shlex.quote(str(analytics.data_dir))}" in said
    where = next(row[2] for row in rows_of(said) if row[0] == "metrics")
    with urllib.request.urlopen(where, timeout=10) as answer:
        found = answer.read().decode().splitlines()
    assert {"analytics_up 1.0", 'analytics_processes{role="events"} 1.0'} <= {*found}


def test_the_first_example_of_the_readme_counts_its_property(up: Up, analytics: Analytics) -> None:
    of_examples = analytics.json("stats", "property", "example_page_view", "path", "/")
    assert of_examples == {"count": 2}
    assert "stats property page_view path /" in up.said()

    send(analytics, {"event_type": "page_view", "properties": {"path": "/pricing"}})
    eventually(
        lambda: analytics.json("stats", "property", "page_view", "path", "/pricing") == {"count": 1}
    )


def test_flower_is_where_it_says_behind_the_login_it_names(up: Up, analytics: Analytics) -> None:
    where = next(row[2] for row in rows_of(up.said()) if row[0] == "flower")
    file = analytics.data_dir / "flower-login.json"
    login = json.loads(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"Log in to Flower at {where} as analytics; the password is in {file}." in up.said()

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{where}/metrics", timeout=10)
    encoded = base64.b64encode(f"{login['user']}:{login['password']}".encode()).decode()
    request = urllib.request.Request(where, headers={"Authorization": f"Basic {encoded}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert "Flower" in answer.read().decode()

    said = [up.said()] + [log.read_text() for log in analytics.data_dir.rglob("*.log")]
    assert not any(login["password"] in text for text in said)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert login["password"].encode() not in path.read_bytes()


def test_other_users_of_the_machine_can_read_nothing_in_the_data_directory(
    up: Up, analytics: Analytics
) -> None:
    assert up.process.poll() is None
    assert analytics.data_dir.stat().st_mode & 0o066 == 0
    open_to_others = [
        str(path)
        for path in analytics.data_dir.iterdir()
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]
    assert open_to_others == []


def test_the_web_server_takes_events_with_the_key_of_the_first_start(
    up: Up, analytics: Analytics
) -> None:
    where = next(row[2] for row in rows_of(up.said()) if row[0] == "web")
    file = analytics.data_dir / "web-keys.json"
    keys = json.loads(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"Write key of the web server:  {keys['write']}" in up.said()
    assert f"Read token:                   {keys['read']}" in up.said()
    request = urllib.request.Request(
        f"{where}/track",
        b'{"event_type": "web_signup"}',
        {"Authorization": f"Bearer {keys['write']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.loads(answer.read()) == {"success": True}
    eventually(lambda: count(analytics, "web_signup") == 1)


def test_the_link_to_the_dashboard_signs_in_once(up: Up) -> None:
    link = up.said().split("within ten minutes):")[1].split()[0]
    assert httpx.get(link, follow_redirects=True, timeout=20).url.path == "/dashboard"
    assert httpx.get(link).status_code == 401


def test_the_commands_of_readme_and_guides_run(
    up: Up, analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = '203.0.113.9 - - [30/Jan/2026:10:00:00 +0000] "GET /x HTTP/1.1" 200 12 "-" "agent"\n'
    (analytics.directory / "access.log.gz").write_bytes(gzip.compress(line.encode()))
    monkeypatch.chdir(analytics.directory)
    pages = "\n".join((ROOT / page).read_text() for page in PAGES_RUN)
    blocks = re.findall(r"```sh\n(.*?)```", pages, re.DOTALL)
    commands = [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.replace(".venv/bin/", "").splitlines()
        if line.startswith("analytics ")
    ]
    before = count(analytics, "page_view")

    for _, *arguments in commands:
        if arguments == ["status"]:  # its Celery app belongs in a process of its own
            assert ["beat", "answers"] in rows_of(analytics.run("status").stdout)
        else:
            assert isinstance(analytics.json(*arguments), dict)
    program = next(block for block in blocks if block.startswith(".venv/bin/python -c '"))
    subprocess.run(
        [sys.executable, "-P", "-c", program.split("'")[1]],
        env=analytics.environment | {"ANALYTICS_DATA_DIR": str(analytics.data_dir)},
        check=True,
        timeout=60,
    )

    assert len(commands) >= 8
    eventually(lambda: count(analytics, "page_view") == before + 1)


def test_an_event_sent_by_hand_is_counted(up: Up, analytics: Analytics) -> None:
    sent = analytics.run("track", "signup", "--user", "ada", "-p", "plan=pro", "-p", "from=a=b")

    assert sent.returncode == 0, sent.stderr
    assert "analytics stats count signup" in sent.stdout
    eventually(lambda: count(analytics, "signup") == 1)
    today = f"{datetime.now(UTC).date()}"
    assert analytics.json("stats", "user", "ada")["counts"]["signup"] == {today: 1}


def test_an_event_with_the_same_id_is_counted_once(up: Up, analytics: Analytics) -> None:
    options = ["--event-id", "order-1", "--timestamp", f"{DAY}T23:59:59+00:00"]

    for _ in range(2):
        assert "task_id" in analytics.json("track", "order", *options)

    eventually(lambda: analytics.books("order").get("duplicate") == 1)
    assert count(analytics, "order", "--date", DAY) == 1


def test_a_file_imported_again_with_event_ids_is_counted_once(up: Up, analytics: Analytics) -> None:
    events = [{"event_type": "imported", "timestamp": f"{DAY}T00:00:00Z"}] * 3

    for _ in range(2):
        assert send(analytics, *events, options=("--event-ids",))["sent"] == 3

    eventually(lambda: analytics.books("imported").get("duplicate") == 3)
    assert count(analytics, "imported", "--date", DAY) == 3


def test_rejected_lines_are_reported_and_decide_the_exit_code_only_when_asked(
    up: Up, analytics: Analytics, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        '203.0.113.9 - - [30/Jan/2026:10:00:00 +0000] "GET /x HTTP/1.1" 200 12 "-" "agent"\n'
        "not a log line\n"
    )

    shown = analytics.run("import", str(log), "--event", "hit")
    strict = analytics.run("import", str(log), "--event", "hit", "--strict", "--json")

    assert shown.returncode == 0
    assert "access.log, read as combined" in shown.stdout
    assert ["2", "1", "1"] in rows_of(shown.stdout)
    assert shown.stderr == ""  # no bar where there is no terminal
    assert strict.returncode == 1
    report = json.loads(strict.stdout)
    assert (report["lines"], report["sent"]) == (2, 1)
    assert [row["line"] for row in report["rejected"]] == [2]
    assert "not a combined log line" in report["rejected"][0]["reason"]


def test_every_read_prints_the_one_object_that_was_agreed(up: Up, analytics: Analytics) -> None:
    days = ("--from", DAY, "--to", DAY)

    assert analytics.json("stats", "count", "page_view", *days) == {"count": 3}
    hours = analytics.json("stats", "hourly", "page_view", "--date", DAY)["counts"]
    assert hours == [0] * 10 + [3] + [0] * 13
    by_day = analytics.json("stats", "series", "page_view", *days, "--by", "day")
    assert by_day == {"series": [{"at": DAY, "count": 3}], "by": "day", "zone": "UTC"}
    by_hour = analytics.json("stats", "series", "page_view", *days, "--by", "hour")["series"]
    assert by_hour[10] == {"at": f"{DAY}T10:00:00+00:00", "count": 3}
    assert len(by_hour) == 24
    assert analytics.json("stats", "user", "u1", *days) == {"counts": {"page_view": {DAY: 2}}}
    assert analytics.json("stats", "property", "page_view", "path", "/a", *days) == {"count": 2}


def test_a_ranking_states_the_flush_it_is_of_and_can_ask_for_one(
    up: Up, analytics: Analytics
) -> None:
    days = ("--from", DAY, "--to", DAY)

    users = analytics.json("stats", "top", "page_view", "user", *days, "--fresh")
    paths = analytics.json("stats", "top", "page_view", "path", *days, "--limit", "1")

    assert users["top"] == [{"value": "u1", "count": 2}, {"value": "u2", "count": 1}]
    assert datetime.fromisoformat(users["as_of"]).tzinfo is not None
    assert paths == {"top": [{"value": "/a", "count": 2}], "as_of": users["as_of"]}


def test_a_flush_says_how_many_counters_it_stored_and_changes_no_count(
    up: Up, analytics: Analytics
) -> None:
    send(analytics, {"event_type": "flushed", "timestamp": f"{DAY}T00:00:00Z"})
    eventually(lambda: count(analytics, "flushed", "--date", DAY) == 1)

    assert analytics.json("flush")["flushed"] >= 2  # its day and its hour
    assert analytics.json("flush") == {"flushed": 0}
    assert count(analytics, "flushed", "--date", DAY) == 1


def test_the_status_holds_what_was_agreed(up: Up, analytics: Analytics) -> None:
    status = json.loads(analytics.run("status", "--json").stdout)

    numbers = {"queue_depth", "unacknowledged", "delayed", "pending_counters", "workers"}
    numbers |= {"oldest_pending_s", "inflight_batches", "dead_letters"}
    condition = {"summary", "findings", "alarms", "warnings", "discarding_workers"}
    assert set(status) == numbers | condition | {"books", "event_log", "lanes"}
    assert all(isinstance(status[name], int) for name in numbers)
    assert status["workers"] == 2
    assert status["books"]["balanced"] is True


def test_a_dead_letter_is_listed_replayed_once_and_dropped(up: Up, analytics: Analytics) -> None:
    # As a worker would have left it, had it not known the event's type.
    servers = server_addresses.read(analytics.data_dir)
    assert servers is not None
    assert servers.redis_url is not None
    body = json.dumps({"event_type": "revived", "timestamp": f"{DAY}T00:00:00Z"})
    fields = {"kind": "event", "body": body, "reason": "for a test", "at_s": "1769817600"}
    with redis.Redis.from_url(servers.redis_url) as client:
        letter_id = client.xadd(Keys().dead, fields).decode()

    listed = analytics.json("dead-letters", "list")["dead_letters"]
    for sent in (1, 0):  # a repeat replays nothing
        assert analytics.json("dead-letters", "replay", letter_id) == {"replayed": sent}

    assert [(row["id"], row["reason"], row["body"]) for row in listed] == [
        (letter_id, "for a test", body)
    ]
    eventually(lambda: analytics.books("revived").get("counted") == 1)
    assert count(analytics, "revived", "--date", DAY) == 1
    assert analytics.json("dead-letters", "drop", letter_id) == {"dropped": 1}
    assert analytics.json("dead-letters", "list") == {"dead_letters": []}


def test_a_second_up_on_the_same_directory_says_who_holds_it(up: Up, analytics: Analytics) -> None:
    second = analytics.run("up")

    assert second.returncode == 1
    assert second.stderr == (
        f"analytics: `analytics up` already runs on {analytics.data_dir} (process "
        f"{up.process.pid}): stop it first, or give this one another --data-dir\n"
    )


def test_an_import_stopped_by_ctrl_c_says_how_far_it_came(
    up: Up, analytics: Analytics, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    importing = subprocess.Popen(
        analytics.command("import", str(pipe), "--data-dir", str(analytics.data_dir)),
        cwd=analytics.directory,
        env=analytics.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    # Opening blocks until somebody reads.
    with importing, pipe.open("wb"):
        for _ in range(4):  # Python forgets one that comes in a destructor
            importing.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                importing.wait(5)
                break
        importing.kill()
        assert importing.stderr is not None
        said = importing.stderr.read()

    assert importing.returncode == 130
    assert said == b"analytics: stopped; nothing was sent\n"


def test_what_is_killed_is_started_again_and_nothing_is_lost(up: Up, analytics: Analytics) -> None:
    before = count(analytics, "page_view", "--date", DAY)

    for name in ("worker events1", "redis"):
        os.kill(up.pid_of(name), signal.SIGKILL)
    eventually(lambda: "worker events1: started again" in up.said())
    eventually(lambda: "redis: ended; starting it again" in up.said())

    send(analytics, {"event_type": "page_view", "timestamp": f"{DAY}T00:00:00Z"})
    eventually(lambda: count(analytics, "page_view", "--date", DAY) == before + 1)


def test_killed_it_takes_everything_along_and_the_next_start_has_every_count(
    tmp_path: Path,
) -> None:
    analytics = Analytics(
        tmp_path / "home", {"FLOWER_PORT": "0", "WEB_PORT": "0", "VISIBILITY_TIMEOUT_S": "2"}
    )
    first = analytics.up()
    send(analytics, *[{"event_type": "kept", "timestamp": f"{DAY}T00:00:00Z"}] * 7)

    first.kill()
    eventually(lambda: not analytics.processes(), what="processes are left after kill -9")
    second = analytics.up()
    try:
        eventually(lambda: count(analytics, "kept", "--date", DAY) == 7)
    finally:
        code = second.stop(signal.SIGINT)

    assert code == 130
    assert not analytics.processes()
    assert "Traceback" not in second.said()
