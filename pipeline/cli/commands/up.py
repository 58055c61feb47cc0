"""`analytics up`: everything on this machine, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import load_settings
from pipeline.cli.output import print_table, say

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.cli.local.supervisor import Supervisor

_WATCH_EVERY_S = 0.5


class _Stopped(BaseException):
    """A signal asked to stop. Not an Exception: nothing on the way out may take it for a fault."""

    def __init__(self, number: int) -> None:
        self.number = number


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: analytics up --example")(up)


def up(
    example: Annotated[
        bool,
        typer.Option(
            "--example",
            help="Send a few example events and print their counts; count their properties, and "
            "path of page_view, unless ANALYTICS_COUNT_BY is set.",
        ),
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    That is Redis, Postgres, event workers, a flush worker, beat, Flower and the web server. Redis
    and Postgres are private servers in the data directory, unless ANALYTICS_REDIS_URL or
    ANALYTICS_POSTGRES_URL name others. With ANALYTICS_METRICS_PORT all metrics are served there;
    with ANALYTICS_ALARM_WEBHOOK or ANALYTICS_ALARM_MAIL_TO alarms go there.
    """
    from pipeline.cli.local.examples import count_properties
    from pipeline.cli.local.supervisor import Supervisor

    if example:
        count_properties()
    settings = load_settings()
    settings.require_enabled("the workers")
    supervisor = Supervisor(settings, _report)
    number = signal.SIGTERM
    _report("Starting servers and workers …")
    try:
        with _stop_on_signals(supervisor), supervisor:
            supervisor.wait_until_ready()
            _show_running(supervisor)
            _show_keys(settings, supervisor)
            _show_flower_login(settings, supervisor)
            if example:
                _show_examples()
            _explain_next_steps(settings)
            while True:
                time.sleep(_WATCH_EVERY_S)
                supervisor.keep_running()
    except _Stopped as stopped:
        number = signal.Signals(stopped.number)
    _report("Stopped; what was counted is kept.")
    if number is signal.SIGINT:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _stop_on_signals(supervisor: Supervisor) -> Iterator[None]:
    """The first signal ends what runs inside; one during the stopping makes it stop by force."""

    def stop(number: int, _: FrameType | None) -> None:
        if supervisor.is_stopping:
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


def _show_running(supervisor: Supervisor) -> None:
    rows = [
        (row.name, row.pid and str(row.pid), row.where, row.log)
        for row in supervisor.list_running()
    ]
    print_table("What runs", ["what", "process", "where", "log"], rows)


def _show_keys(settings: Settings, supervisor: Supervisor) -> None:
    """The keys of the web server, which a private Redis is given with the first start."""
    from pipeline.cli.local.first_keys import load_first_keys, make_sign_in_link
    from pipeline.cli.local.plans import WEB

    if not supervisor.runs(WEB):
        return
    if settings.redis_url is not None:
        _report("Make a key for the web server:  analytics keys create write")
        return
    keys = load_first_keys(settings)
    _report(
        f"Write key of the web server:  {keys.write}\n"
        f"Read token:                   {keys.read}\n"
        f"Both are kept in {keys.path}."
    )
    where = next(row.where for row in supervisor.list_running() if row.name == WEB)
    _report(f"Dashboard (signs in once, within ten minutes):  {make_sign_in_link(where, keys)}")


def _show_flower_login(settings: Settings, supervisor: Supervisor) -> None:
    """Where to log in to Flower, and with what. The password is shown on a terminal, and not where
    the output may be kept."""
    from pipeline.access.flower_login import OWN_LOGIN_VARIABLES, load_flower_login
    from pipeline.cli.local.plans import FLOWER

    where = next((row.where for row in supervisor.list_running() if row.name == FLOWER), None)
    if where is None:
        return
    given = next((name for name in OWN_LOGIN_VARIABLES if os.environ.get(name)), None)
    if given is not None:
        _report(f"Log in to Flower at {where} as {given} says.")
        return
    login = load_flower_login(settings.data_dir)
    password = f"password {login.password}, kept" if sys.stdout.isatty() else "the password is"
    _report(f"Log in to Flower at {where} as {login.user}; {password} in {login.path}.")


def _show_examples() -> None:
    """Send the example events and print their counts."""
    from pipeline.cli.local.examples import send_examples

    rows = [(one.event_type, one.sent, one.counted) for one in send_examples()]
    print_table("Example events", ["event type", "sent now", "counted today (UTC)"], rows)


def _explain_next_steps(settings: Settings) -> None:
    where = ""
    data_dir = settings.data_dir.absolute()
    if data_dir != Path(".analytics").absolute():
        where = f" --data-dir {shlex.quote(str(data_dir))}"
    # As it was called: `make run` calls .venv/bin/analytics, which is seldom on the path.
    analytics = sys.argv[0] if sys.argv[0].endswith("bin/analytics") else "analytics"
    _report(
        "Send an event of your own:  "
        f"{analytics} track page_view --user u1 -p path=/{where}\n"
        f"See its count:              {analytics} stats count page_view{where}\n"
        f"{_explain_property(settings, analytics, where)}"
        f"See the queues:             {analytics} status{where}\n"
        "Ctrl-C stops all of this; what was counted is kept."
    )


def _explain_property(settings: Settings, analytics: str, where: str) -> str:
    if "path" not in settings.count_by.get("page_view", ()):
        return ""
    return f"Of its property:            {analytics} stats property page_view path /{where}\n"


def _report(text: str) -> None:
    # The reader of our output may have gone; that is no reason to stop counting.
    with contextlib.suppress(BrokenPipeError):
        say(text)
