"""Whatever arguments a command is given: it is done, or says in one line what is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.app import app, main
from pipeline.services import Services
from tests.fuzz.budget import fuzz
from tests.fuzz.strategies.files import files, format_names
from tests.helpers.support import Workers
from tests.helpers.web_process import wait_until_consumed

EXAMPLES = 60
FILES = 15
ENDLESS = {"up", "worker", "beat", "flower", "web", "metrics", "watch"}
"""They run until they are stopped."""
UNTOLD = {"import", "export", "accept-redis-state"}
"""The first two take a path, and have a test of their own; the third changes what all else says."""

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    output: str
    errors: str

    def check(self) -> None:
        """It is done, or says in a line what is wrong and what to do."""
        assert self.code in {0, 1, 2, 4} or (self.code == 3 and "does not answer" in self.errors)
        assert "Traceback" not in self.errors
        assert self.errors or self.code == 0 or self.output
        for line in self.errors.splitlines():
            assert line.isprintable(), line


def run(*arguments: str) -> Said:
    """Run the command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Said(code, output.getvalue(), errors.getvalue())


@pytest.fixture
def environment(services: Services, workers: Workers) -> Iterator[None]:
    with patch.dict(os.environ, workers.environment, clear=True):
        yield


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, with the options that it has."""
    for name, command in group.commands.items():
        if not path and name in ENDLESS | UNTOLD:
            continue
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def options(path: tuple[str, ...]) -> list[str]:
    """The options of a command."""
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    found = [option for parameter in command.params for option in parameter.opts]
    return [option for option in found if option.startswith("-") and option != "--follow"]


COMMANDS = {path: options(path) for path in commands(typer.main.get_command(app))}  # type: ignore[arg-type]
# What an argument list can hold: bytes of any kind but NUL, as Python shows them.
words = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
    | st.sampled_from(
        ["\udcff", "page_view", "2026-01-31", "9999-12-31", "0001-01-01", "u1", "path"]
    )
    | st.sampled_from(
        ["-1", "0", "1e999", "NaN", "9" * 400, "--", "-", "--json", "a=b", "=", "write"]
    )
)


@st.composite
def argument_lists(draw: st.DrawFn) -> list[str]:
    """A command with arguments that it may take or not."""
    path = draw(st.sampled_from(list(COMMANDS)))
    words_or_options = words | st.sampled_from(COMMANDS[path] or ["--json"])
    return [*path, *draw(st.lists(words_or_options, max_size=6))]


def test_any_arguments_are_done_or_refused_in_a_line(environment: None) -> None:
    @given(arguments=argument_lists() | st.lists(words, max_size=3))
    def check(arguments: list[str]) -> None:
        if not set(arguments) & (ENDLESS | UNTOLD):
            run(*arguments).check()

    fuzz(check, EXAMPLES)


def test_any_file_is_imported_and_each_line_sent_is_counted_once(
    environment: None, services: Services, workers: Workers, tmp_path: Path
) -> None:
    path, sent = tmp_path / "events", 0

    @given(content=files, name=format_names)
    def check(content: bytes, name: str) -> None:
        nonlocal sent
        path.write_bytes(content)
        said = run("import", str(path), "--format", name, "--json")
        said.check()
        assert said.code in {0, 1}  # 1 where no line is an event
        sent += json.loads(said.output)["sent"]

    fuzz(check, FILES)

    workers.start("events")
    wait_until_consumed(services)
    books = services.status()["books"]
    assert books["consumed"] == sent == books["counted"] + books["duplicate"]
    assert books["balanced"]
