"""Every command in README and docs can be given: each is parsed by the program's own parser, or is
on a list that says which test runs it.

The limit: a parsed command is not run. That the program then does what the page says is tested
where the program is: `analytics` in tests/acceptance/commands, which runs those of four pages as
they stand; `celery -A tasks` in tests/acceptance and tests/integration; targets of make in CI and
in the tests of what they start. Commands of other projects (helm, kubectl, systemctl) are checked
for the files of ours that they name.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from celery.bin.celery import celery

from config.settings import Settings
from pipeline.cli.app import app
from tests.reference.command_lines import (
    PAGES,
    PAGES_RUN,
    ROOT,
    blocks,
    command_lines,
    inline_commands,
)

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ROUTES = (ROOT / "docs" / "reference" / "http-api.md").read_text(encoding="utf-8")
OURS = re.compile(r"^(?:deploy|config|examples|docs|benchmarks)/")
ANALYTICS: Any = typer.main.get_command(app)
WEB_PORT = Settings.model_fields["web_port"].default
NOT_OURS = {
    **dict.fromkeys(("helm", "kubectl"), "tests/unit/project/test_chart.py"),
    **dict.fromkeys(("systemctl", "systemd-run"), "tests/unit/project/test_systemd.py"),
    "docker": "tests/unit/project/test_compose.py",
    "pip": "tests/acceptance/commands/test_wheel.py",
    **dict.fromkeys(("flask", "uvicorn"), "tests/acceptance/applications/test_shops.py"),
}
"""Program of another project -> the test of what we give to it."""
OF_THE_SYSTEM = {
    *(".", "cd", "cp", "editor", "export", "install", "mkdir", "mv", "openssl", "sed", "tail"),
    "useradd",
}


def parse_analytics(words: list[str]) -> None:
    command = ANALYTICS
    context = command.make_context("analytics", words)
    while rest := [*getattr(context, "_protected_args", []), *context.args]:
        if not hasattr(command, "commands"):
            raise AssertionError(f"too many words: {rest}")
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def parse_celery(words: list[str]) -> None:
    assert words[:2] in (["-A", "tasks"], ["-A", "pipeline.cli.workers"])
    assert importlib.util.find_spec(words[1]) is not None
    if len(words) > 2:
        command = celery.commands[words[2]]
        context = celery.context_class(command, info_name=words[2])
        command.make_parser(context).parse_args(list(words[3:]))


def parse_make(words: list[str]) -> None:
    for word in words:
        variable, is_set, _ = word.partition("=")
        if is_set:
            assert f"$({variable})" in MAKEFILE or f"$({variable}:" in MAKEFILE, variable
        else:
            assert re.search(rf"^{word}:", MAKEFILE, re.MULTILINE), word


def parse_python(words: list[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "<command>", "exec")
    elif words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert (ROOT / words[0]).exists()


def parse_curl(words: list[str]) -> None:
    """An address of the web server is one of our routes, and a body is JSON."""
    address = urlsplit(next(word for word in words if word.startswith("http://127.")))
    method = "POST" if "-d" in words else "GET"
    assert address.port != WEB_PORT or f"{method} {address.path}" in ROUTES
    if "-d" in words:
        json.loads(words[words.index("-d") + 1])


PARSERS: dict[str, Callable[[list[str]], None]] = {
    "analytics": parse_analytics,
    "celery": parse_celery,
    "curl": parse_curl,
    "make": parse_make,
    "python": parse_python,
    "python3": parse_python,
}


def check(words: list[str]) -> None:
    program = words[0].rpartition("/")[2]
    for word in words:
        if OURS.match(word) and program != "kubectl":  # where deploy/NAME is a deployment
            assert list(ROOT.glob(word)) or (ROOT / f"{word}.py").exists(), f"no {word}"
    if program in PARSERS:
        PARSERS[program](words[1:])
    elif program in NOT_OURS:
        assert (ROOT / NOT_OURS[program]).exists()
    else:
        assert program in OF_THE_SYSTEM, f"no test knows {program}: {shlex.join(words)}"


@pytest.fixture(autouse=True)
def _in_a_directory_with_logs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("access.log", "access.log.gz"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def test_every_command_of_readme_and_docs_is_one_that_can_be_given() -> None:
    found = list(command_lines())
    for page, words in found:  # not a parameter each: they are many, and quick
        try:
            check(words)
        except Exception as error:
            raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error
    assert len(found) > 100


def test_every_command_within_a_sentence_names_what_there_is() -> None:
    for command, page in {command: page for page, command in inline_commands()}.items():
        program, *words = command.replace("python -m", "python-m").split()
        known = list_options(program, words)
        options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert options <= known or program == "python-m", f"{page}: {command}"


def list_options(program: str, words: list[str]) -> set[str]:
    """The options of the command that these words name; checks that there is such a command."""
    if program == "make":
        parse_make([word for word in words if not word.startswith("…")])
        return set()
    if program == "python-m":
        assert importlib.util.find_spec(words[0]) is not None, words[0]
        return set()
    command: Any = celery if program == "celery" else ANALYTICS
    options = {"--help", "--data-dir"}
    if program == "celery" and words[:1] == ["-A"]:
        words = words[2:]
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            assert not command.commands or not re.fullmatch(r"[a-z-]+", words[0]), words
            break
        command, words = command.commands[words[0]], words[1:]
    for parameter in command.params:
        options |= set(parameter.opts) | set(parameter.secondary_opts)
    return options


def test_every_block_names_its_language() -> None:
    assert {block.page for block in blocks() if not block.language} == set()


def test_no_command_stands_in_a_block_without_a_fence() -> None:
    for page in PAGES:
        indented = re.findall(r"\n\n    (\S+)", page.read_text(encoding="utf-8"))
        assert not {*indented} & {*PARSERS, *NOT_OURS}, page


@pytest.mark.parametrize("page", PAGES_RUN)
def test_a_page_whose_commands_are_run_has_some(page: str) -> None:
    assert any(words[0].endswith("analytics") for of, words in command_lines() if of == page)
