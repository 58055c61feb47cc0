"""The page of the Python API: signatures and docstrings of what applications import."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pipeline
from pipeline import stats
from pipeline.producer import pytest_plugin
from pipeline.producer.publisher import PublishUnconfirmed
from pipeline.producer.settings import ProducerSettings
from tests.reference.markdown import code, flow, page

_SENDING = "pipeline"
_OF_CELERY = "A Celery task: `.delay()`, `.apply_async()`, `.s()` and a direct call take these."
_FIXTURE = "recorded_events"
_QUOTED = re.compile(r"(: |-> )'([^']*)'")
"""An annotation."""
_MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")


def make() -> str:
    """The page."""
    return page(
        "Python API",
        "What an application imports; everything else in the package may change. Arguments of an "
        "event: [events](events.md). Errors: [errors](errors.md).",
        f"## {_SENDING}\n\nSending events. `import {_SENDING}` loads no database and no web code.",
        *(_describe(_SENDING, name, getattr(pipeline, name)) for name in pipeline.__all__),
        _describe(PublishUnconfirmed.__module__, "PublishUnconfirmed", PublishUnconfirmed),
        f"## {stats.__name__}\n\nReading counts; [an example](../guides/reading/in-python.md).",
        *(_describe(stats.__name__, name, getattr(stats, name)) for name in stats.__all__),
        "## pytest\n\nFor the tests of applications: [testing](../guides/sending/testing.md).",
        f"### {_FIXTURE}\n\n{flow(getattr(pytest_plugin, _FIXTURE).__doc__)}",
    )


def _describe(module: str, name: str, one: Any) -> str:
    head = f"### {name}\n\n```python\nfrom {module} import {name}\n```"
    if inspect.isclass(one):
        return "\n\n".join([head, *_describe_class(name, one)])
    run = getattr(one, "run", None)
    if one is pipeline.configure:
        head += f"\n\nSettings, with their defaults: {_list_fields(ProducerSettings)}."
    if run is None:
        return "\n\n".join([head, _code(_signature(name, one)), flow(one.__doc__)])
    return "\n\n".join([head, _code(_signature(name, run)), flow(run.__doc__), _OF_CELERY])


def _describe_class(name: str, one: type) -> Iterator[str]:
    if "__init__" in vars(one):
        yield _code(_signature(name, one.__init__))
    yield flow(one.__doc__)
    for own, member in vars(one).items():
        if own.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"- **{own}**: {flow(member.__doc__)}"
        elif isinstance(member, classmethod) and member.__func__.__doc__:
            made_by = member.__func__
            yield f"- {code(_signature(f'{name}.{own}', made_by))}: {_item(made_by)}"
        elif inspect.isfunction(member) and member.__doc__:
            yield f"- {code(_signature(own, member))}: {_item(member)}"


def _list_fields(one: type[ProducerSettings]) -> str:
    return ", ".join(
        code(field.name if field.default is MISSING else f"{field.name}={_plain(field.default)!r}")
        for field in sorted(fields(one), key=lambda field: field.name)
    )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _item(one: Callable[..., Any]) -> str:
    return flow(one.__doc__).replace("\n\n", "\n\n    ")


def _signature(name: str, one: Callable[..., Any]) -> str:
    signature = inspect.signature(one)
    taken = [p for p in signature.parameters.values() if p.name not in {"self", "cls"}]
    shown = _QUOTED.sub(r"\1\2", str(signature.replace(parameters=taken)))
    return f"{name}{_MODULES.sub('', shown)}"


def _code(text: str) -> str:
    """A signature as a block, an argument a line where it is long."""
    head, _, rest = text.partition("(")
    arguments, _, result = rest.rpartition(")")
    if len(text) > 100:
        inner = "".join(f"    {one},\n" for one in _split(arguments))
        text = f"{head}(\n{inner}){result}"
    return f"```python\n{text}\n```"


def _split(arguments: str) -> list[str]:
    """At the commas that are within no brackets."""
    found, depth = [""], 0
    for character in arguments:
        depth += (character in "[({") - (character in "])}")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return [one.strip() for one in found]
