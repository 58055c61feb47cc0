"""Trackers and processes: forks, children of multiprocessing, and the end of the program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.helpers.tracking import refusing, run, users, users_sent

_FORK = """
import os, sys
from pipeline import Tracker
tracker = Tracker(max_age_s=3600)
tracker.track("page_view", "before")
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        tracker.track("page_view", f"child {n}")
        if n == 0:
            tracker.flush()
            os._exit(0)
        if n == 1:
            tracker.close()
            os._exit(0)
        sys.exit()
    children.append(pid)
tracker.track("page_view", "after")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""
_FORK_UNDER_WAY = """
import os, threading
from pipeline import Tracker
tracker = Tracker(max_events=5, capacity=20, max_age_s=0)

def work(thread):
    for n in range(1000):
        tracker.track("page_view", f"{thread} {n}")

threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
for thread in threads:
    thread.start()
for n in range(20):
    pid = os.fork()
    if pid == 0:
        tracker.track("page_view", f"child {n}")
        tracker.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
for thread in threads:
    thread.join()
tracker.close()
"""
_FORK_WITH_A_SPOOL = """
import os, signal, sys
from pathlib import Path
from pipeline import Tracker
from pipeline.producer.spool import Spool
tracker = Tracker(when_full="spool", spool_dir=sys.argv[1])
tracker.track("page_view", "u0")
tracker.flush()
done, said = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(said, b".")
    signal.pause()
assert os.read(done, 1) == b"."
tracker.close()
found = Spool.left_over(Path(sys.argv[1]), 10)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
assert len(found) == 1
"""
_MULTIPROCESSING = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from pipeline import Tracker
tracker = Tracker(max_age_s=3600)

def work(n):
    tracker.track("page_view", f"child {n}")

if __name__ == "__main__":
    method = multiprocessing.get_context(sys.argv[1])
    tracker.track("page_view", "parent")
    child = method.Process(target=work, args=(0,))
    child.start()
    child.join()
    with ProcessPoolExecutor(2, mp_context=method) as pool:
        list(pool.map(work, [1, 2, 3]))
"""


def test_what_a_forked_child_tracks_is_sent_and_its_parents_events_once(
    client: redis.Redis, redis_url: str
) -> None:
    run(_FORK, redis_url)
    names = ["before", "after", "child 0", "child 1", "child 2"]
    assert Counter(users_sent(client)) == Counter(names)


def test_a_fork_may_come_while_other_threads_track_and_send(
    client: redis.Redis, redis_url: str
) -> None:
    run(_FORK_UNDER_WAY, redis_url)
    parents = [f"{thread} {n}" for thread in range(3) for n in range(1_000)]
    children = [f"child {n}" for n in range(20)]
    assert Counter(users_sent(client)) == Counter(parents + children)


def test_a_forked_child_does_not_keep_its_parents_files_locked(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    with refusing(client):
        run(_FORK_WITH_A_SPOOL, redis_url, str(tmp_path / "spool"))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_children_of_multiprocessing_track_is_sent_at_their_end(
    client: redis.Redis, redis_url: str, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(_MULTIPROCESSING)
    program = f"import runpy, sys; sys.argv[0] = {str(script)!r}; sys.path.insert(0, '.')\n"
    program += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    run(program, redis_url, method)
    assert Counter(users_sent(client)) == Counter(["parent", *users(4, "child ")])


def test_the_end_of_the_program_sends_what_is_in_the_buffer(
    client: redis.Redis, redis_url: str
) -> None:
    run(
        "from pipeline import Tracker\n"
        "tracker = Tracker(max_age_s=3600)\n"
        "for n in range(1234):\n"
        "    tracker.track('page_view', f'u{n}')\n",
        redis_url,
    )
    assert users_sent(client) == users(1_234)


def test_a_thread_may_track_until_the_program_ends(client: redis.Redis, redis_url: str) -> None:
    run(
        "import threading\n"
        "from pipeline import Tracker\n"
        "tracker = Tracker(max_age_s=3600)\n"
        "main = threading.current_thread()\n"
        "def work():\n"
        "    main.join()\n"
        "    tracker.track('page_view', 'u0')\n"
        "threading.Thread(target=work).start()\n",
        redis_url,
    )
    assert users_sent(client) == ["u0"]


def test_events_lost_with_the_program_are_said(client: redis.Redis, redis_url: str) -> None:
    with refusing(client):
        ran = run(
            "from pipeline import Tracker\n"
            "from pipeline.producer.tracking import process_hooks\n"
            "process_hooks._AT_EXIT_S = 0\n"
            "Tracker().track('page_view')\n",
            redis_url,
        )
    assert "the program ends: 1 events were not accepted in time" in ran.stderr
    assert users_sent(client) == []
