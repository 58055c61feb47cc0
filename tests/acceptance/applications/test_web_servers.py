"""Django, Flask and FastAPI under the servers that run them: what a request tracked is counted once
however the server ends, recycles and reloads its processes.

The buffers are full at the end: events that others do not push out wait there for an hour.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.helpers.applications.load import tracked_for
from tests.helpers.applications.serving import counts_sent, port_for, request_all, running
from tests.helpers.support import eventually
from tests.helpers.tracking import users

_ASGI = "tests.helpers.applications.django_app:asgi"
_WSGI = "tests.helpers.applications.django_app:wsgi"
_FASTAPI = "tests.helpers.applications.fastapi_app:app"
_FLASK = "tests.helpers.applications.flask_app:app"
_LATE = "tests.helpers.applications.late_app:app"

# A worker that is told to end before it has begun does not hear it.
_GUNICORN = "gunicorn --bind 127.0.0.1:PORT --workers 2 --graceful-timeout 10"
_UVICORN_WORKER = f"{_GUNICORN} --worker-class uvicorn_worker.UvicornWorker"
# With --die-on-term uWSGI ends a worker that is busy without a word to Python.
_UWSGI = (
    "uwsgi --http-socket 127.0.0.1:PORT --master --need-app"
    " --hook-master-start 'unix_signal:15 gracefully_kill_them_all'"
)
_AT_IMPORT = Counter({("page_view", "import"): 1, ("click", "import"): 1})
"""What an application tracks while it is imported."""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"{_GUNICORN} {_WSGI}", id="gunicorn-sync-django"),
        pytest.param(f"{_GUNICORN} {_FLASK}", id="gunicorn-sync-flask"),
        pytest.param(f"{_GUNICORN} --threads 4 {_WSGI}", id="gunicorn-gthread-django"),
        pytest.param(f"{_GUNICORN} --threads 4 {_FLASK}", id="gunicorn-gthread-flask"),
        pytest.param(f"{_GUNICORN} --worker-class gevent {_WSGI}", id="gunicorn-gevent-django"),
        pytest.param(f"{_GUNICORN} --worker-class gevent {_FLASK}", id="gunicorn-gevent-flask"),
        pytest.param(f"{_GUNICORN} --worker-class asgi {_ASGI}", id="gunicorn-asgi-django"),
        pytest.param(f"{_GUNICORN} --max-requests 20 {_FLASK}", id="gunicorn-max-requests-flask"),
        pytest.param(f"{_UVICORN_WORKER} {_ASGI}", id="gunicorn-uvicorn-django"),
        pytest.param(f"{_UVICORN_WORKER} {_FASTAPI}", id="gunicorn-uvicorn-fastapi"),
        pytest.param(f"uvicorn --port PORT {_ASGI}", id="uvicorn-django"),
        pytest.param(f"uvicorn --port PORT {_FASTAPI}", id="uvicorn-fastapi"),
        pytest.param(f"uvicorn --port PORT --interface wsgi {_FLASK}", id="uvicorn-flask"),
        pytest.param(f"uvicorn --port PORT --workers 2 {_ASGI}", id="uvicorn-2-django"),
        pytest.param(f"uvicorn --port PORT --workers 2 {_FASTAPI}", id="uvicorn-2-fastapi"),
        pytest.param(f"uvicorn --port PORT --workers 2 {_LATE}", id="uvicorn-2-imported-late"),
        pytest.param(f"hypercorn --bind 127.0.0.1:PORT {_FASTAPI}", id="hypercorn-fastapi"),
        pytest.param(f"waitress-serve --port PORT {_FLASK}", id="waitress-flask"),
        pytest.param(f"flask --app {_FLASK} run --port PORT", id="flask-run"),
        pytest.param(f"{_UWSGI} --enable-threads --lazy-apps --module {_WSGI}", id="uwsgi-django"),
    ],
)
def test_what_requests_tracked_is_counted_once_when_the_server_is_terminated(
    client: redis.Redis, redis_url: str, tmp_path: Path, command: str
) -> None:
    port, arguments = port_for(command)
    with running(arguments, tmp_path / "log", ANALYTICS_REDIS_URL=redis_url) as server:
        request_all(server, port, "/", users(60))
        server.end()
        assert counts_sent(client) == tracked_for(users(60)), server.output


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"{_GUNICORN} --preload {_WSGI}", id="gunicorn-sync-django"),
        pytest.param(f"{_GUNICORN} --preload --threads 4 {_FLASK}", id="gunicorn-gthread-flask"),
        pytest.param(f"{_GUNICORN} --preload --worker-class gevent {_WSGI}", id="gevent-django"),
        pytest.param(f"{_GUNICORN} --preload --worker-class gevent {_FLASK}", id="gevent-flask"),
        pytest.param(f"{_UVICORN_WORKER} --preload {_FASTAPI}", id="gunicorn-uvicorn-fastapi"),
    ],
)
def test_what_was_tracked_before_the_workers_forked_is_counted_once_too(
    client: redis.Redis, redis_url: str, tmp_path: Path, command: str
) -> None:
    port, arguments = port_for(command)
    settings = {"ANALYTICS_REDIS_URL": redis_url, "TRACKED_AT_IMPORT": "1"}
    with running(arguments, tmp_path / "log", **settings) as server:
        request_all(server, port, "/", users(60))
        server.end()
        assert counts_sent(client) == tracked_for(users(60)) + _AT_IMPORT, server.output


def test_workers_that_uwsgi_forks_share_nothing_with_its_master(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    port, arguments = port_for(f"{_UWSGI} --processes 2 --enable-threads --module {_FLASK}")
    settings = {"ANALYTICS_REDIS_URL": redis_url, "TRACKED_AT_IMPORT": "1"}
    with running(arguments, tmp_path / "log", **settings) as server:
        request_all(server, port, "/", users(60))
        server.end()
        # The master ends without a word to Python, which it says.
        missing = tracked_for(users(60)) + _AT_IMPORT - counts_sent(client)
        assert list(missing) == [("page_view", "import")], server.output
        assert counts_sent(client).total() == 6 * 60 + 1
        assert "the master of uWSGI ends without sending" in server.output


def test_uwsgi_without_threads_sends_at_the_end_and_says_what_is_missing(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    port, arguments = port_for(f"{_UWSGI} --module {_FLASK}")
    with running(arguments, tmp_path / "log", ANALYTICS_REDIS_URL=redis_url) as server:
        request_all(server, port, "/", users(20))
        server.end()
        assert counts_sent(client) == tracked_for(users(20)), server.output
        assert "start it with --enable-threads" in server.output


def test_async_trackers_lose_nothing_when_the_server_is_terminated(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    port, arguments = port_for(f"uvicorn --port PORT {_FASTAPI}")
    with running(arguments, tmp_path / "log", ANALYTICS_REDIS_URL=redis_url) as server:
        request_all(server, port, "/async", users(60))
        assert server.end() == -signal.SIGTERM  # as without a tracker
        assert counts_sent(client) == tracked_for(users(60)), server.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_other_signals_that_end_a_server_lose_nothing(
    client: redis.Redis, redis_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    commands = {
        signal.SIGINT: f"uvicorn --port PORT {_FASTAPI}",
        signal.SIGQUIT: f"{_GUNICORN} {_FLASK}",
        signal.SIGHUP: f"waitress-serve --port PORT {_FLASK}",
    }
    port, arguments = port_for(commands[number])
    with running(arguments, tmp_path / "log", ANALYTICS_REDIS_URL=redis_url) as server:
        request_all(server, port, "/", users(20))
        server.end(number)
        assert counts_sent(client) == tracked_for(users(20)), server.output


def test_a_reload_of_gunicorn_loses_nothing(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    port, arguments = port_for(f"{_GUNICORN} {_FLASK}")
    with running(arguments, tmp_path / "log", ANALYTICS_REDIS_URL=redis_url) as server:
        request_all(server, port, "/", users(20, "before "))
        server.send(signal.SIGHUP)
        eventually(lambda: counts_sent(client) == tracked_for(users(20, "before ")))
        request_all(server, port, "/", users(20, "after "))
        server.end()
        expected = tracked_for([*users(20, "before "), *users(20, "after ")])
        assert counts_sent(client) == expected, server.output
