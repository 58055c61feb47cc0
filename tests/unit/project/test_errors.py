"""Every error of the code stands in the tree that is drawn at the top of `pipeline/errors.py`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline import errors

ROOT = Path(__file__).parents[3]
# Imports all modules, and prints every subclass of Exception that one of them defines. Migrations
# and the scripts that Python runs as __main__ do their work when they are imported.
FIND = """
import importlib, json, pkgutil
for package in ("config", "pipeline", "tasks"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
from pipeline.errors import PipelineError

def descendants(kind):
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)

print(json.dumps([
    (kind.__name__, kind.__module__, issubclass(kind, PipelineError), kind.__doc__)
    for kind in set(descendants(Exception))
    if kind.__module__.split(".")[0] in ("config", "pipeline", "tasks")
]))
"""
DRAWN = re.compile(r"^ {4}(?:│ {3})?[├└]── (\w+) +(.+?)(?:: (pipeline\.[\w.]+))?$", re.MULTILINE)


class Found(NamedTuple):
    """An exception class of the code."""

    name: str
    module: str
    in_the_tree: bool
    doc: str | None


@pytest.fixture(scope="module")
def found() -> list[Found]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANALYTICS_")}
    run = subprocess.run(
        [sys.executable, "-c", FIND],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    return [Found(*one) for one in json.loads(run.stdout)]


def test_every_error_descends_from_the_base(found: list[Found]) -> None:
    assert len(found) > 10
    assert [one for one in found if not one.in_the_tree] == []


def test_the_drawing_names_every_error_and_where_it_is_defined(found: list[Found]) -> None:
    drawn = {name: module or "pipeline.errors" for name, _, module in DRAWN.findall(errors.__doc__)}
    assert drawn == {one.name: one.module for one in found if one.name != "PipelineError"}


def test_an_errors_name_says_what_went_wrong_and_not_that_it_is_an_error(
    found: list[Found],
) -> None:
    names = {one.name for one in found} - {"PipelineError"}
    assert [name for name in names if re.search(r"Error|Exception|Failure|^_", name)] == []


def test_every_error_has_a_docstring_of_its_own(found: list[Found]) -> None:
    docs = [one.doc for one in found]
    assert None not in docs
    assert len(set(docs)) == len(docs)
