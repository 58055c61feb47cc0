"""The page of the commands: what `--help` says of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from pipeline.cli.app import EXIT_STATUSES, app
from tests.reference.markdown import code, flow, page, table


def make() -> str:
    """The page."""
    root = typer.main.get_command(app)
    found = list(walk(root, "analytics"))
    index = table(
        ("command", "does"),
        (
            (f"[`{name}`](#{name.replace(' ', '-')})", _first_sentence(command))
            for name, command in found
        ),
    )
    sections = [_describe(name, command) for name, command in found]
    statuses, _, _ = EXIT_STATUSES.partition(" docs/")
    return page(
        "Commands",
        "As `--help` says. `--data-dir DIR` on any command finds the private servers that "
        "`analytics up` started there.",
        f"Exit status: {statuses} [Exit statuses](exit-statuses.md) has those of each command.",
        index,
        *sections,
    )


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with its whole name."""
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield name, command
    for own, one in inner.items():
        if not one.hidden:
            yield from walk(one, f"{name} {own}")


def _describe(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [
        (code(record[0]), flow(record[1]))
        for parameter in command.params
        if (record := parameter.get_help_record(context)) is not None
    ]
    parts = [f"## {name}", f"```text\n{usage}\n```", flow(command.help)]
    if rows:
        parts.append(table(("argument or option", "meaning"), rows))
    for line in _examples(command.epilog):
        parts.append(f"```sh\n{line}\n```")
    return "\n\n".join(parts)


def _examples(epilog: str | None) -> list[str]:
    lines = (epilog or "").splitlines()
    return [line.removeprefix("Example: ") for line in lines if line.startswith("Example: ")]


def _first_sentence(command: Any) -> str:
    return flow(command.help).partition("\n\n")[0].partition(". ")[0].rstrip(".")
