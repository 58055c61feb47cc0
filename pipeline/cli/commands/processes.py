"""`analytics worker`, `beat` and `flower`: the Celery processes, each with the options it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from pipeline.cli.context import load_celery_app, load_settings
from pipeline.errors import InvalidConfiguration
from pipeline.installation import queues_of
from pipeline.system.launcher import end_with_parent

ParentPid = Annotated[int | None, typer.Option(hidden=True, help="End when this process ends.")]


class WorkerKind(StrEnum):
    """What a worker works on."""

    events = "events"
    flush = "flush"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics worker events")(worker)
    app.command(epilog="Example: analytics beat")(beat)
    app.command(epilog="Example: analytics flower --port 5555")(flower)


def worker(
    kind: Annotated[
        WorkerKind,
        typer.Argument(help="events: counts events. flush: flushes and maintains."),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The worker's name, which must differ from others on this machine."),
    ] = None,
    shared_queue: Annotated[
        bool,
        typer.Option(
            "--shared-queue",
            help="Take also what waits in the default installation's queue, as this one's.",
        ),
    ] = False,
    parent_pid: ParentPid = None,
) -> None:
    """Run a Celery worker until it is stopped.

    The same as `celery -A tasks worker -Q analytics.events -P solo`, of which as many may run as
    there are cores or machines, and as `celery -A tasks worker -Q
    analytics.flush,analytics.maintenance`. With another ANALYTICS_PREFIX, as shop:, the queues are
    shop.events and so on.
    """
    queues = queues_of(load_settings().prefix)
    if kind is WorkerKind.events:
        names = _join_shared_queue(queues.events) if shared_queue else queues.events
        options = ["-Q", names, "-P", "solo"]
    else:
        # Flushes, the archive and maintenance have a process each.
        options = ["-Q", f"{queues.flush},{queues.maintenance}", "-c", "3"]
    # Workers need not know of each other, and start a second sooner without asking (mingle).
    options += ["--without-gossip", "--without-mingle", "-n", f"{name or kind.value}@%h"]
    _run("worker", options, parent_pid)


def beat(
    redbeat: Annotated[
        bool,
        typer.Option(
            "--redbeat",
            help="Be one of several beats, of which one asks and the others stand by "
            "(celery-redbeat).",
        ),
    ] = False,
    parent_pid: ParentPid = None,
) -> None:
    """Run Celery beat, which asks for what is due: flushes, the archive, maintenance.

    One is enough. Two do no work twice, and when both are away flush workers ask in their stead.
    """
    options = ["--pidfile="]
    if redbeat:
        _check_redbeat()
        options += ["--scheduler", "tasks.several_beats.OneOfSeveral"]
    _run("beat", options, parent_pid)


def _check_redbeat() -> None:
    if find_spec("redbeat") is None:
        raise InvalidConfiguration(
            "--redbeat needs celery-redbeat: pip install 'analytics-pipeline[redbeat]'"
        )
    url = load_settings().redis_url
    if url is not None and url.get_secret_value().startswith("sentinel"):
        raise InvalidConfiguration(
            "--redbeat needs the address of one Redis, not of Sentinels: leave it out, and run two "
            "beats, which do no work twice either"
        )


def flower(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; else ANALYTICS_FLOWER_PORT.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--address", help="Address to listen on; other than loopback needs FLOWER_BASIC_AUTH."
        ),
    ] = "127.0.0.1",
    parent_pid: ParentPid = None,
) -> None:
    """Run Flower: a page of queues, workers and tasks, behind a login.

    The login is FLOWER_BASIC_AUTH=NAME:PASSWORD. Without it one is made and kept in
    flower-login.json in the data directory.
    """
    import_module("flower.command")  # before our Celery app, which puts a login before it
    chosen = port or load_settings().flower_port
    if not chosen:
        raise InvalidConfiguration(
            "ANALYTICS_FLOWER_PORT=0 turns Flower off; give --port to run it"
        )
    _run("flower", [f"--address={host}", f"--port={chosen}"], parent_pid, level=False)


def _join_shared_queue(own: str) -> str:
    """Both queues for -Q: before names carried the prefix, every installation used that one."""
    from kombu import Queue

    from pipeline.contract import EVENTS_QUEUE

    queues = load_celery_app().amqp.queues
    if EVENTS_QUEUE in queues:
        return own
    like = queues[own]
    shared = Queue(EVENTS_QUEUE, like.exchange, EVENTS_QUEUE, queue_arguments=like.queue_arguments)
    queues.add(shared)
    return f"{own},{EVENTS_QUEUE}"


def _run(
    command: str, options: Sequence[str], parent_pid: int | None, *, level: bool = True
) -> None:
    if parent_pid is not None:
        end_with_parent(parent_pid)
    app = load_celery_app()
    if parent_pid is not None:
        from celery.signals import worker_process_init

        # A pool process does not inherit it.
        worker_process_init.connect(_end_with_worker, weak=False)
    arguments = [command, *options]
    if level:
        arguments += ["-l", load_settings().log_level]
    sys.argv = ["celery", "-A", "tasks", *arguments]
    code = app.start(arguments)
    if code:
        raise typer.Exit(code)


def _end_with_worker(**_: object) -> None:
    end_with_parent(os.getppid())
