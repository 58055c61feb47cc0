"""What the house uses of Celery, kombu and others that they call private: all of it is named here,
and so is looked at when one of them changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("config", "pipeline", "tasks")
USED = {
    "_conf": "options that the environment cannot change",
    "_get_current_object": "the application's app, in place of the proxy for the one of now",
    "_state": "the application's app, and none where it has none",
    "_to_keys": "the names that an option of Celery has",
    "_on_fulfilled": "what fulfils the promise of a result",
    "_argsrepr": "what monitors are shown of the arguments of a task",
    "_kwargsrepr": "the same",
    "_request_dict": "the same",
    "_finished": "whether Flower's answer is sent already (tornado)",
}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_exit"  # of os


def own_names(tree: ast.Module) -> set[str]:
    """What a module defines itself: functions, classes, fields, and what it sets of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def private_names(tree: ast.Module) -> set[str]:
    """Private names that a module reads, or takes from a library."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {*node.module.split("."), *(one.name for one in node.names)}
    return set(filter(is_private, found))


def imported(tree: ast.Module) -> set[str]:
    """The packages that a module imports from."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_every_private_name_of_a_library_is_named_here() -> None:
    ours = {name for _, tree in trees() for name in own_names(tree)}
    ours -= set(USED)
    found: set[str] = set()
    for _, tree in trees():
        if imported(tree) & {"celery", "kombu", "flower", "billiard"}:
            found |= private_names(tree) - ours
    assert found == set(USED)
