"""`analytics watch`: the alarms, without Prometheus."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import load_settings, open_services
from pipeline.cli.output import say, warn
from pipeline.errors import AlreadyRunning, InvalidConfiguration
from pipeline.system.file_locks import FileLock
from pipeline.system.launcher import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from config.settings import Settings
    from pipeline.watch.notices import Sender
    from pipeline.watch.watcher import Found

_RAISED = 1


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics watch --once")(watch)


Every = Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")]
Once = Annotated[
    bool, typer.Option("--once", help="Look once, and end: for cron. Exit status 1: alarms.")
]
State = Annotated[
    Path | None,
    typer.Option("--state", help="File of what is raised; else alarms.json in the data directory."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", help="An alarm that is not raised; may be repeated.")
]
Rules = Annotated[
    bool, typer.Option("--rules", help="Print the same alarms as Prometheus' rules, and end.")
]
ParentPid = Annotated[int | None, typer.Option(hidden=True, help="End when this process ends.")]
Test = Annotated[bool, typer.Option("--test", help="Send a notice to try the settings, and end.")]


def watch(  # noqa: PLR0913, PLR0917 - the options of the command
    every: Every = 15.0,
    once: Once = False,
    state: State = None,
    ignore: Ignore = None,
    rules: Rules = False,
    test: Test = False,
    parent_pid: ParentPid = None,
) -> None:
    """Raise alarms to a webhook or by mail, once, and clear them, until Ctrl-C.

    ANALYTICS_ALARM_WEBHOOK is posted each notice as JSON, ANALYTICS_ALARM_MAIL_TO gets it by mail.
    An alarm is raised when it is found twice in a row; with --once at once.
    """
    from pipeline.watch.rules import make_rules

    if parent_pid is not None:
        end_with_parent(parent_pid)
    settings = load_settings()
    if rules:
        typer.echo(make_rules(), nl=False)
        return
    senders = _make_senders(settings)
    if test:
        _send_test(senders, settings.prefix)
        return
    _watch(settings, senders, state, (every, once, frozenset(ignore or ())))


def _watch(
    settings: Settings,
    senders: Sequence[Sender],
    state: Path | None,
    how: tuple[float, bool, frozenset[str]],
) -> None:
    from pipeline.metrics.reading import StateReader
    from pipeline.upkeep.condition.alarms import BY_NAME, find_alarms
    from pipeline.watch import watcher as watching
    from pipeline.watch.raised import RaisedFile

    every, once, ignored = how
    if unknown := sorted(ignored - BY_NAME.keys()):
        raise InvalidConfiguration(
            f"--ignore {unknown[0]}: there is no such alarm; there are {', '.join(sorted(BY_NAME))}"
        )
    path = state or settings.data_dir / "alarms.json"
    file = RaisedFile(path)
    for_s = 0.0 if once else 0.9 * every
    watcher = watching.Watcher(settings.prefix, senders, file, for_s)
    with open_services(unchecked=True) as services:
        reader = StateReader(services)

        def find() -> Found:
            alarms = find_alarms(reader.read()["faults"])
            return {name: one for name, one in alarms.items() if name not in ignored}

        if once:
            found = find()
            watcher.update(found, time.time())
            _report(found)
            if watcher.owes:
                warn(f"not delivered yet, tried again next time: {', '.join(watcher.owes)}")
            raise typer.Exit(_RAISED if found else 0)
        _configure_log(settings)
        with _keep_others_away(path):
            say(f"Watching every {every:g} s, Ctrl-C ends.")
            watching.watch(watcher, find, every)


@contextmanager
def _keep_others_away(state: Path) -> Iterator[None]:
    """Hold a lock beside the file, since two that share it would tell each alarm twice."""
    try:
        state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock.try_acquire(state.with_name(f"{state.name}.lock"))
    except OSError as error:
        raise InvalidConfiguration(
            f"{state} cannot be written ({error}): name another with --state"
        ) from error
    if lock is None:
        raise AlreadyRunning(
            f"`analytics watch` already runs with {state} (`analytics up` starts one where "
            "ANALYTICS_ALARM_WEBHOOK or ANALYTICS_ALARM_MAIL_TO is set): end it, or give this one "
            "another file with --state"
        )
    try:
        yield
    finally:
        lock.close()


def _configure_log(settings: Settings) -> None:
    """Alarms, and what could not be sent; not at each look that a server is away, too."""
    from config import logging as log_setup

    log_setup.configure(settings.log_level, settings.log_format)
    logging.getLogger("pipeline.metrics.reading").setLevel(logging.ERROR)


def _report(found: Found) -> None:
    for name, findings in sorted(found.items()):
        for one in findings:
            say(f"{name}: {one.what} {one.remedy}")
    if not found:
        say("No alarm.")


def _make_senders(settings: Settings) -> list[Sender]:
    from pipeline.watch.mail import Mail
    from pipeline.watch.webhook import Webhook

    senders: list[Sender] = []
    if settings.alarm_webhook is not None:
        senders.append(Webhook(settings.alarm_webhook.get_secret_value()))
    if settings.alarm_mail_to is not None:
        url = settings.alarm_smtp_url
        recipients = [one.strip() for one in settings.alarm_mail_to.split(",")]
        server = url.get_secret_value() if url is not None else "smtp://localhost"
        senders.append(Mail(server, tuple(recipients)))
    if not senders:
        warn(
            "alarms go nowhere: set ANALYTICS_ALARM_WEBHOOK to a URL, or ANALYTICS_ALARM_MAIL_TO "
            "to addresses"
        )
    return senders


def _send_test(senders: Sequence[Sender], installation: str) -> None:
    from datetime import UTC, datetime

    from pipeline.watch.notices import Notice

    now = datetime.now(UTC)
    what, remedy = "This is a test.", "Nothing is to be done."
    notice = Notice("test", "raised", "late", what, remedy, now, now, "", installation)
    for sender in senders:
        sender.send(notice)
        say(f"Sent to the {sender.name}.")
