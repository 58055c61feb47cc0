"""What the house uses of Celery, kombu and others that they do not document: all of it is named
here, with its reason in the documents, and so is looked at when one of them changes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "event-lane.md"
PACKAGES = ("config", "pipeline", "tasks")
LIBRARIES = {"billiard", "celery", "flower", "kombu", "tornado", "vine"}
IMPORT = re.compile(rf"^\s*(from|import) ({'|'.join(LIBRARIES)})\b", re.MULTILINE)
PRIVATE = {
    ("pipeline/producer/celery_tasks.py", "_cache"),
    ("pipeline/producer/eager_mode.py", "_keys"),
    ("pipeline/producer/eager_mode.py", "_to_keys"),
}
UNDOCUMENTED = {
    ("pipeline/producer/canvas/followers.py", "mark_as_done"),
    ("pipeline/producer/canvas/followers.py", "route"),
    ("tasks/worker/checked_task.py", "start_strategy"),
    ("tasks/worker/stopping.py", "celery.concurrency"),
    ("tasks/worker/stopping.py", "celery.concurrency.solo.TaskPool"),
}
"""Of those that have no underscore: what Celery's reference does not show."""
METHODS = {"mark_as_done", "route", "start_strategy"}
INTERNAL = ("celery._", "celery.app.trace", "celery.backends", "celery.concurrency", "celery.utils",
            "kombu.transport")  # fmt: skip
"""Modules that the reference calls internals."""


@cache
def modules() -> list[tuple[str, ast.Module, dict[str, str]]]:
    """Each module that uses a library, with what its names stand for in them."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if IMPORT.search(text := path.read_text(encoding="utf-8")):
                tree = ast.parse(text)
                found.append((str(path.relative_to(ROOT)), tree, imported(tree)))
    return found


def imported(tree: ast.Module) -> dict[str, str]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                found[one.asname or one.name] = f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            for one in node.names:
                found[one.asname or one.name.partition(".")[0]] = one.name
    return {name: of for name, of in found.items() if of.partition(".")[0] in LIBRARIES}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name != "_exit"  # of os


def set_names(tree: ast.AST) -> set[str]:
    """What is defined or assigned: functions, classes, variables, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def read_names(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def overridden(tree: ast.Module, names: dict[str, str]) -> set[str]:
    """Private names of a library's class that a class of ours which derives from it uses."""
    found = set()
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            first, *rest = ast.unparse(base).split(".")
            if first in names and not node.name.startswith("Guarded"):  # made in a function
                source = source_of(".".join([names[first], *rest]))
                used = filter(is_private, set_names(node) | read_names(node))
                found |= {name for name in used if re.search(rf"\b{name}\b", source)}
    return found


def source_of(dotted: str) -> str:
    """The source of a class and those that it derives from, without those of Python."""
    parts = dotted.split(".")
    found: Any = None
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        break
    ours = [one for one in found.__mro__ if one.__module__.partition(".")[0] in LIBRARIES]
    return "".join(inspect.getsource(inspect.getmodule(one)) for one in ours)


def test_every_private_name_of_a_library_is_named_here() -> None:
    found = set()
    for path, tree, names in modules():
        parts = {part for dotted in names.values() for part in dotted.split(".")}
        private = set(filter(is_private, (read_names(tree) - set_names(tree)) | parts))
        found |= {(path, name) for name in private | overridden(tree, names)}
    assert found == PRIVATE


def test_everything_undocumented_is_named_here() -> None:
    found = set()
    for path, tree, names in modules():
        modules_of = {of for of in names.values() if of.startswith(INTERNAL)}
        used = (read_names(tree) | set_names(tree)) & METHODS
        found |= {(path, name) for name in modules_of | used}
    assert found == UNDOCUMENTED


def test_the_page_gives_the_reason_of_each() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = {name for _, name in PRIVATE | UNDOCUMENTED}
    assert [name for name in sorted(named) if f"`{name}`" not in page] == []
