"""Ends of a process that `atexit` does not see, and ends that it does: what was tracked is sent."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.helpers.processes import run_python
from tests.helpers.tracking import run, users, users_sent

_TRACKED = """
import os, signal, sys, threading, time
from pipeline import Tracker
tracker = Tracker(max_age_s=3600)
for n in range(300):
    tracker.track("page_view", f"u{n}")
"""


def end(program: str, redis_url: str) -> tuple[int, str]:
    """Run a program; returns its status, negative for a signal, and what it wrote to stderr."""
    ran = run_python("-c", program, environment={"ANALYTICS_REDIS_URL": redis_url})
    return ran.returncode, ran.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_nothing_handles_ends_the_process_when_all_is_sent(
    client: redis.Redis, redis_url: str, name: str
) -> None:
    program = f"{_TRACKED}os.kill(os.getpid(), signal.{name})\ntime.sleep(60)\n"
    assert end(program, redis_url) == (-getattr(signal, name), "")
    assert users_sent(client) == users(300)


def test_a_signal_that_is_repeated_cuts_nothing_off(client: redis.Redis, redis_url: str) -> None:
    program = """
def insist():
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=insist, daemon=True).start()
time.sleep(60)
"""
    assert end(_TRACKED + program, redis_url) == (-signal.SIGTERM, "")
    assert users_sent(client) == users(300)


def test_a_handler_of_the_application_is_left_alone(client: redis.Redis, redis_url: str) -> None:
    before = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
    program = """
os.kill(os.getpid(), signal.SIGTERM)
tracker.track("page_view", "after")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert end(before + _TRACKED + program, redis_url) == (0, "")
    assert users_sent(client) == [*users(300), "after"]


def test_a_handler_in_c_is_left_alone(client: redis.Redis, redis_url: str) -> None:
    before = """
import ctypes, signal
handle = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: None)
ctypes.CDLL(None).signal(signal.SIGTERM, handle)
"""
    program = "os.kill(os.getpid(), signal.SIGTERM)\nassert signal.getsignal(15) == 0\n"
    assert end(before + _TRACKED + program, redis_url) == (0, "")
    assert users_sent(client) == users(300)


def test_where_no_handler_can_be_installed_a_warning_says_what_to_do(
    client: redis.Redis, redis_url: str
) -> None:
    work = "".join(f"    {line}\n" for line in _TRACKED.splitlines())
    program = f"""
import threading
def work():
{work}
    tracker.close()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    status, said = end(program, redis_url)
    assert status == 0
    assert "import Tracker in the main thread" in said
    assert users_sent(client) == users(300)


def test_a_function_of_atexit_may_track_after_the_tracker_was_closed(
    client: redis.Redis, redis_url: str
) -> None:
    late = "import atexit\natexit.register(lambda: tracker.track('page_view', 'late'))\n"
    assert end(late + _TRACKED, redis_url) == (0, "")
    assert users_sent(client) == [*users(300), "late"]


def test_what_a_thread_tracked_while_the_program_ends_is_sent_or_refused(
    client: redis.Redis, redis_url: str
) -> None:
    program = """
tracked = 300
def work():
    global tracked
    try:
        while True:
            tracker.track("page_view", f"u{tracked}")
            tracked += 1
    except RuntimeError:
        print(tracked, flush=True)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
import atexit
from pipeline.producer.tracking import process_hooks
process_hooks._close_all()
time.sleep(0.1)
"""
    ran = run(_TRACKED + program, redis_url)
    assert users_sent(client) == users(int(ran.stdout))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_that_is_terminated_sends_what_its_processes_tracked(
    client: redis.Redis, redis_url: str, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text("""
import multiprocessing, sys
from pipeline import Tracker
tracker = Tracker(max_age_s=3600)

def work(n):
    tracker.track("page_view", f"u{n}")

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        pool.map(work, range(100))
""")
    program = f"import runpy, sys; sys.argv[0] = {str(script)!r}; sys.path.insert(0, '.')\n"
    run(f"{program}runpy.run_path({str(script)!r}, run_name='__main__')", redis_url, method)
    assert Counter(users_sent(client)) == Counter(users(100))
