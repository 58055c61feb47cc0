"""What the house uses of Celery, kombu and others that they call private: all of it is named here,
and so is looked at when one of them changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("config", "pipeline", "tasks")
USED = {
    # Options that the environment cannot change.
    "pipeline/celery_app.py": {"_conf"},
    # The application's app itself, in place of the proxy that stands for the one of now.
    "pipeline/producer/canvas/signatures.py": {"_get_current_object"},
    "pipeline/producer/sender.py": {"_get_current_object"},
    # What fulfils the promise of a result.
    "pipeline/producer/celery_tasks.py": {"_on_fulfilled"},
    # The application's app, none where it has none, and the names that an option of it has.
    "pipeline/producer/eager_mode.py": {"_state", "_to_keys"},
    # What monitors are shown of the arguments of a task.
    "tasks/worker/event_request.py": {"_argsrepr", "_kwargsrepr", "_request_dict"},
    # Whether Flower's answer is sent already (tornado).
    "tasks/guarded_flower.py": {"_finished"},
}
"""By file."""


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
    ours -= {name for names in USED.values() for name in names}
    found = {
        file: private
        for file, tree in trees()
        if imported(tree) & {"celery", "kombu", "flower", "billiard"}
        and (private := private_names(tree) - ours)
    }
    assert found == USED
