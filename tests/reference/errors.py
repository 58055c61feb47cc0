"""The page of the errors: the tree of `pipeline.errors`, the answers of the web server, the exit
statuses of commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

from pipeline import errors
from pipeline.errors import PipelineError
from pipeline.producer import publisher
from pipeline.web import errors as web_errors
from tests.reference.markdown import code, first_paragraph, page, table


def make() -> str:
    """The page."""
    document = inspect.cleandoc(errors.__doc__ or "")
    tree = document[document.index("PipelineError") : document.index("\n\nA name says")]
    rows = [
        (f"`{one.__name__}`", _bases(one), code(one.__module__), first_paragraph(one.__doc__))
        for one in find_errors()
    ]
    return page(
        "Errors",
        "Every error of the pipeline is a `PipelineError`. Each message says what was wrong, with "
        "which value, and what to do. A command prints the message as one line and ends with an "
        "[exit status](exit-statuses.md); the web server answers with "
        '`{"error": {"code", "message", "field"}}` and the status in the tree below.',
        f"```text\n{inspect.cleandoc(tree)}\n```",
        table(("error", "is a", "import from", "raised when"), rows),
    )


def find_errors() -> Iterator[type[PipelineError]]:
    """Every class of the tree, by module and in the order of the source."""
    for module in (errors, publisher, web_errors):
        yield from _find_in(module)


def _find_in(module: ModuleType) -> Iterator[type[PipelineError]]:
    for one in vars(module).values():
        if inspect.isclass(one) and issubclass(one, PipelineError):
            yield from [one] if one.__module__ == module.__name__ else []


def _bases(one: type) -> str:
    names = (base.__name__ for base in one.__bases__ if base.__name__ != "Exception")
    return ", ".join(f"`{name}`" for name in names)
