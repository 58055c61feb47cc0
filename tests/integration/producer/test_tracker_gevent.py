"""Trackers in a process that gevent has patched, before or after they were made."""

from __future__ import annotations

import signal
from collections import Counter

import redis

from tests.helpers.processes import run_python
from tests.helpers.tracking import run, users, users_sent

_PATCH = """
import gevent.monkey
gevent.monkey.patch_all()
"""
_TRACKER = """
from pipeline import Tracker
tracker = Tracker(max_age_s=0.05, max_events=20, capacity=60)
"""
_WORK = """
import gevent, os, signal
def work(greenlet):
    for n in range(100):
        tracker.track("page_view", f"{greenlet} u{n}")
greenlets = [gevent.spawn(work, n) for n in range(3)]
"""
_ALL = [user for greenlet in range(3) for user in users(100, f"{greenlet} u")]
# gevent warns of whatever was imported before it patches.
_QUIET = "import warnings\nwarnings.simplefilter('ignore')\n"


def test_locks_made_before_gevent_patched_the_process_are_made_anew(
    client: redis.Redis, redis_url: str
) -> None:
    run(f"{_QUIET}{_TRACKER}{_PATCH}{_WORK}gevent.joinall(greenlets)\n", redis_url)
    assert Counter(users_sent(client)) == Counter(_ALL)


def test_a_thread_that_began_before_gevent_patched_the_process_goes_on(
    client: redis.Redis, redis_url: str
) -> None:
    early = "tracker.track('page_view', 'early')\n"
    run(f"{_QUIET}{_TRACKER}{early}{_PATCH}{_WORK}gevent.joinall(greenlets)\n", redis_url)
    assert Counter(users_sent(client)) == Counter(["early", *_ALL])


def test_a_signal_that_comes_in_the_hub_ends_the_process_when_all_is_sent(
    client: redis.Redis, redis_url: str
) -> None:
    tracker = _TRACKER.replace("0.05, max_events=20, capacity=60", "3600")
    end = "gevent.spawn(lambda: os.kill(os.getpid(), signal.SIGTERM))\ngevent.sleep(60)\n"
    program = f"{_PATCH}{tracker}{_WORK}{end}"
    ran = run_python("-c", program, environment={"ANALYTICS_REDIS_URL": redis_url})
    assert (ran.returncode, ran.stderr) == (-signal.SIGTERM, "")
    assert Counter(users_sent(client)) == Counter(_ALL)


def test_a_forked_child_in_which_green_threads_go_on_sends_nothing_of_its_parent(
    client: redis.Redis, redis_url: str
) -> None:
    fork = """
tracker.track("page_view", "parent")
gevent.sleep(0.1)
children = []
for n in range(3):
    child = os.fork()
    if child == 0:
        tracker.track("page_view", f"child {n}")
        gevent.sleep(0.2)
        tracker.close()
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
"""
    tracker = _TRACKER.replace("0.05, max_events=20, capacity=60", "0.3")
    run(f"{_PATCH}{tracker}import gevent, os\n{fork}", redis_url)
    assert Counter(users_sent(client)) == Counter(["parent", *users(3, "child ")])
