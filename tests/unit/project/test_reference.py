"""The pages of reference are as the code says, and each thing that the code has is on its page."""

from __future__ import annotations

import re

import pytest
import typer

from config.description import name_variable
from config.settings import Settings
from pipeline.cli.app import app
from pipeline.errors import PipelineError
from pipeline.measures import MEASURES
from pipeline.metrics.processes import PROCESS_METRICS
from pipeline.metrics.state import PREFIX, STATE_METRICS
from pipeline.postgres.fitness import metadata
from pipeline.redis.keys import KINDS
from pipeline.web import errors as web_errors
from pipeline.web.collector.library_settings import create_settings
from pipeline.web.collector.routes import create_formats
from tests.reference.commands import walk
from tests.reference.pages import PAGES, REFERENCE

KEYS_OF_CELERY = {"unacked_mutex"}
"""Keys of kombu's, which lives for seconds where an old worker runs beside ours."""


def read(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_the_code_says(page: str) -> None:
    assert read(page) == PAGES[page](), "make reference"


def test_every_setting_has_its_row_with_a_default() -> None:
    row = re.compile(r"^\| `(ANALYTICS_\w+)` \| \S.*? \| \S.*? \| \S", re.MULTILINE)
    assert row.findall(read("settings.md")) == [name_variable(one) for one in Settings.model_fields]


def test_every_command_has_its_section() -> None:
    commands = {name for name, _ in walk(typer.main.get_command(app), "analytics")}
    assert set(re.findall(r"^## (.+)$", read("commands.md"), re.MULTILINE)) == commands


def test_every_metric_has_its_row() -> None:
    known = {f"{PREFIX}{one.name}" for one in (*STATE_METRICS, *PROCESS_METRICS, *MEASURES)}
    assert set(re.findall(r"^\| `(\w+)` \|", read("metrics.md"), re.MULTILINE)) >= known


def test_every_route_of_the_collector_has_its_row() -> None:
    page = read("http-api.md")
    for path in (*create_formats(), *create_settings()):
        assert re.search(rf"^\| `[A-Z]+ {re.escape(path)}` \|", page, re.MULTILINE), path


def test_every_kind_of_redis_key_has_its_row() -> None:
    cells = re.findall(r"^\| (.*?) \|", read("redis-keys.md"), re.MULTILINE)
    shown = {kind for cell in cells for kind in re.findall(r"`(\w+)[^`]*`", cell)}
    assert shown >= KINDS - KEYS_OF_CELERY


def test_every_table_has_its_section_with_every_column() -> None:
    page = read("tables.md")
    for table in metadata.tables.values():
        section = page.partition(f"\n## {table.name}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [
            one.name for one in table.columns
        ]


def test_every_error_has_its_row() -> None:
    assert web_errors
    ours = {one.__name__ for one in find_subclasses(PipelineError)}
    assert set(re.findall(r"^\| `(\w+)` \|", read("errors.md"), re.MULTILINE)) >= ours


def find_subclasses(error: type[PipelineError]) -> set[type[PipelineError]]:
    """The error and all below it, of the package and not of tests."""
    below = {one for sub in error.__subclasses__() for one in find_subclasses(sub)}
    return {one for one in {error, *below} if one.__module__.startswith("pipeline.")}
