"""Changing the fields of an event: by options, or in the editor of the user."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from pipeline.errors import InvalidConfiguration

_DEFAULT_EDITOR = "vi"


def change_fields(
    fields: Mapping[str, Any], changes: Sequence[str], removed: Sequence[str]
) -> dict[str, Any]:
    """The fields with each `name=value` set, and each removed name gone. `properties.x` names a
    property. A value is JSON, and text where it is none."""
    edited: dict[str, Any] = json.loads(json.dumps(fields))
    for change in changes:
        name, equals, given = change.partition("=")
        if not name or not equals:
            raise typer.BadParameter(
                f"{change!r} has no value: write FIELD=VALUE, such as event_type=sale",
                param_hint="--set",
            )
        inside, last = _find_place(edited, name)
        inside[last] = _read_value(given)
    for name in removed:
        inside, last = _find_place(edited, name)
        inside.pop(last, None)
    return edited


def edit_in_editor(content: Mapping[str, Any] | str, comment: str) -> dict[str, Any]:
    """Have the user edit the fields as JSON, or what came in their place; `comment` says what is
    wrong. Raises BadParameter where what is saved is no JSON object."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2)
    lines = " ".join(comment.split())
    with tempfile.TemporaryDirectory(prefix="analytics-") as directory:  # of this user alone
        path = Path(directory) / "event.json"
        path.write_text(f"// {lines}\n{text}\n", encoding="utf-8", errors="backslashreplace")
        _run_editor(path)
        saved = path.read_text(encoding="utf-8", errors="replace")
    kept = "\n".join(line for line in saved.splitlines() if not line.startswith("//"))
    try:
        edited = json.loads(kept)
    except ValueError as error:
        raise typer.BadParameter(
            f"what was saved is no JSON ({error}): nothing was changed", param_hint="the event"
        ) from error
    if not isinstance(edited, dict):
        raise typer.BadParameter(
            "what was saved is no JSON object: nothing was changed", param_hint="the event"
        )
    return edited


def _run_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _DEFAULT_EDITOR
    try:
        subprocess.run([*shlex.split(editor), path], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise InvalidConfiguration(
            f"the editor {editor!r} failed ({error}): set EDITOR to another, or use --set; nothing "
            "was changed"
        ) from error


def _find_place(fields: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The object that has the field, and its name there."""
    head, dot, rest = name.partition(".")
    if head != "properties" or not dot:
        return fields, name
    if not isinstance(fields.get(head), dict):
        fields[head] = {}
    return fields[head], rest


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
