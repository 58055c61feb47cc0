"""The command's frame: its tree of commands, its exit codes, and errors as one line.

Its exit statuses are those of `EXIT_STATUSES`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.cli.commands import (
    archiving,
    dead_letters,
    erasing,
    events,
    keys,
    operating,
    processes,
    reading,
    stats,
    types,
    up,
    watching,
    web,
)
from pipeline.cli.commands.care import backups, doctor
from pipeline.cli.context import DATA_DIR_VARIABLE, use_data_dir
from pipeline.cli.errors import explain, find_undecodable
from pipeline.cli.output import warn
from pipeline.errors import NotCompared
from pipeline.server_errors import FAILED_STATUS, find_exit_status
from pipeline.system import rooms

WRITTEN_WRONGLY = 2
NOT_COMPARED = 4
FAULT = 70
INTERRUPTED = 130
CUT_OFF = 141
EXIT_STATUSES = (
    "0 done; 1 not done (`audit`: counts differ; `watch --once`: alarms); 2 written wrongly; 3 a "
    "server does not answer, so try again; 4 `audit` compared nothing, for another reason; 70 a "
    "fault of this program; 130 stopped by Ctrl-C; 141 its output was cut off. "
    "docs/reference/exit-statuses.md has those of each command."
)

app = typer.Typer(
    # Help that rich lays out takes twice as long to appear.
    rich_markup_mode=None,
    name="analytics",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Example: analytics up --example\n\nExit status: {EXIT_STATUSES}",
)


@app.callback()
def root(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            envvar=DATA_DIR_VARIABLE,
            help="Directory of the private servers that `analytics up` starts; "
            "may stand before or after any command.",
        ),
    ] = None,
) -> None:
    """Event analytics on Celery and Redis: exact counts, flushed into Postgres."""
    if data_dir is not None:
        use_data_dir(data_dir)


_MODULES = (
    up,
    events,
    stats,
    reading,
    archiving,
    operating,
    dead_letters,
    erasing,
    processes,
    web,
    keys,
    types,
    watching,
    doctor,
    backups,
)
for module in _MODULES:
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `analytics` command and exit."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        rooms.use_rooms()
        rooms.check_package()
        code = typer.main.get_command(app).main(
            _move_data_dir_first(given), prog_name="analytics", standalone_mode=False
        )
        sys.stdout.flush()
    except typer.TyperException as error:
        _show_usage_error(error.format_message())
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # So typer and rich end where they find what is below.
        sys.exit(CUT_OFF if isinstance(end.__context__, BrokenPipeError) else end.code)
    except BrokenPipeError:
        # Its reader has gone (`analytics … | head`): as the shell has it of a program that a signal
        # ends then. 1 would say of `status` that events may be lost.
        _drop_output()
        sys.exit(CUT_OFF)
    except Exception as error:
        undecodable = find_undecodable(error, given)
        if undecodable is not None:
            warn(f"the argument {undecodable!a} is no UTF-8; write it in UTF-8")
            sys.exit(WRITTEN_WRONGLY)
        line = explain(error)
        if line is None:
            sys.excepthook(*sys.exc_info())
            sys.exit(FAULT)
        warn(line)
        try:
            sys.stdout.flush()
        except OSError:  # the line says so already; Python would repeat it and exit with 120
            _drop_output()
        sys.exit(_find_status(error))
    sys.exit(code if isinstance(code, int) else 0)


def _find_status(error: Exception) -> int:
    status = find_exit_status(error)
    is_answer = status == FAILED_STATUS and isinstance(error, NotCompared)
    return NOT_COMPARED if is_answer else status


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_usage_error(message: str) -> None:
    """One line: "Invalid value for --date: … is not a day; …". Help, where no command was given."""
    if message.startswith("Usage:"):
        sys.stderr.write(message + "\n")
    elif message:
        warn(" ".join(message.replace("Value error, ", "").split()))


def _move_data_dir_first(arguments: Sequence[str]) -> list[str]:
    """Move `--data-dir DIR` to the front, where the root reads it, from wherever it stands."""
    moved: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others.extend([argument, *rest])
        elif argument == "--data-dir":
            directory = next(rest, None)
            if directory is None:
                raise typer.BadParameter("needs a directory", param_hint="--data-dir")
            moved.extend([argument, directory])
        elif argument.startswith("--data-dir="):
            moved.append(argument)
        else:
            others.append(argument)
    return moved + others
