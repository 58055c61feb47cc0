import os, signal
from tests.support import *
from pipeline import track_event
def test_drain(workers, sending, services):
    w = workers.start("events")
    f = workers.start("flush")
    os.kill(w.process.pid, signal.SIGSTOP)
    for n in range(3000):
        track_event.delay("x", f"u{n}", timestamp=NOW)
    services.redis.config_set("maxmemory", 1)
    try:
        os.kill(w.process.pid, signal.SIGCONT)
        eventually(lambda: services.stats.daily_count("x", TODAY) == 3000, 40)
        services.flush()
        print(services.status())
    finally:
        services.redis.config_set("maxmemory", 0)
        print(w.said()[-3000:])
        print(f.said()[-3000:])
    assert 0
