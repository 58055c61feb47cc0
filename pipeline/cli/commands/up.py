"""`analytics up`: everything on this machine, until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import configure_producer, load_settings, open_services
from pipeline.cli.options import today
from pipeline.cli.output import print_table, say
from pipeline.errors import NotCounted

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.cli.local.supervisor import Supervisor

_WATCH_EVERY_S = 0.5
_COUNTED_WITHIN_S = 30.0
_POLL_S = 0.05

# Types of their own, so that the examples of a demonstration never mix with a user's counts.
_EXAMPLES = (
    ("example_page_view", "ada", {"path": "/"}),
    ("example_page_view", "ada", {"path": "/pricing"}),
    ("example_page_view", "grace", {"path": "/"}),
    ("example_product_click", "ada", {"product_id": "p-42"}),
    ("example_product_click", "grace", {"product_id": "p-7"}),
)


class _Stopped(BaseException):
    """A signal asked to stop. Not an Exception: nothing on the way out may take it for a fault."""

    def __init__(self, number: int) -> None:
        self.number = number


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: analytics up --example")(up)


def up(
    example: Annotated[
        bool, typer.Option("--example", help="Send a few example events and print their counts.")
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    That is Redis, Postgres, event workers, a flush worker, beat, Flower and the web server. Redis
    and Postgres are private servers in the data directory, unless ANALYTICS_REDIS_URL or
    ANALYTICS_POSTGRES_URL name others.
    """
    from pipeline.cli.local.supervisor import Supervisor, data_dir_hint

    settings = load_settings()
    supervisor = Supervisor(settings, _tell)
    number = signal.SIGTERM
    _tell("Starting servers and workers …")
    try:
        with _stopping_on_signals(supervisor), supervisor:
            supervisor.wait_until_ready()
            _show(supervisor)
            _show_keys(settings, supervisor)
            if example:
                _send_examples()
            _tell_how_to_go_on(data_dir_hint(settings))
            while True:
                time.sleep(_WATCH_EVERY_S)
                supervisor.keep_running()
    except _Stopped as stopped:
        number = signal.Signals(stopped.number)
    _tell("Stopped; what was counted is kept.")
    if number is signal.SIGINT:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _stopping_on_signals(supervisor: Supervisor) -> Iterator[None]:
    """The first signal ends what runs inside; one during the stopping makes it stop by force."""

    def stop(number: int, _: FrameType | None) -> None:
        if supervisor.stopping:
            supervisor.hurry()
        else:
            raise _Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(supervisor: Supervisor) -> None:
    rows = [
        (row.name, row.pid and str(row.pid), row.where, row.log) for row in supervisor.running()
    ]
    print_table("What runs", ["what", "process", "where", "log"], rows)


def _show_keys(settings: Settings, supervisor: Supervisor) -> None:
    """The keys of the web server, which a private Redis is given with the first start."""
    from pipeline.cli.commands.keys import first_keys
    from pipeline.cli.local.supervisor import WEB

    if WEB not in supervisor.ports:
        return
    if settings.redis_url is not None:
        _tell("Make a key for the web server:  analytics keys create write")
        return
    keys = first_keys(settings)
    _tell(
        f"Write key of the web server:  {keys.write}\n"
        f"Read token:                   {keys.read}\n"
        f"Both are kept in {keys.path}."
    )


def _send_examples() -> None:
    """Send the example events, wait until they are counted, and print their counts."""
    from pipeline.producer.celery_tasks import track_event

    configure_producer()
    sent = Counter(event_type for event_type, _, _ in _EXAMPLES)
    with open_services() as services:
        day = today()
        goal = {name: services.stats.daily_count(name, day) + n for name, n in sent.items()}
        for event_type, user, properties in _EXAMPLES:
            track_event.delay(event_type, user_id=user, properties=properties)
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while True:
            counts = {name: services.stats.daily_count(name, day) for name in goal}
            if all(counts[name] >= goal[name] for name in goal):
                break
            if time.monotonic() > deadline:
                raise NotCounted(
                    f"{len(_EXAMPLES)} example events were sent but not counted within "
                    f"{_COUNTED_WITHIN_S:g} s: see the event worker's log"
                )
            time.sleep(_POLL_S)
    rows = [(name, n, counts[name]) for name, n in sent.items()]
    print_table("Example events", ["event type", "sent now", "counted today (UTC)"], rows)


def _tell_how_to_go_on(where: str) -> None:
    # As it was called: `make run` calls .venv/bin/analytics, which is on nobody's path.
    analytics = sys.argv[0] if sys.argv[0].endswith("bin/analytics") else "analytics"
    _tell(
        "Send an event of your own:  "
        f"{analytics} track page_view --user u1 -p path=/{where}\n"
        f"See its count:              {analytics} stats count page_view{where}\n"
        f"See the queues:             {analytics} status{where}\n"
        "Ctrl-C stops all of this; what was counted is kept."
    )


def _tell(text: str) -> None:
    # Whoever read our output may have gone; that is no reason to stop counting.
    with contextlib.suppress(BrokenPipeError):
        say(text)
