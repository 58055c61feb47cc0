"""The commands that ask in a shell what a page shows. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.journeys.retention import RetentionQuestion


def write_funnel_command(question: FunnelQuestion) -> str:
    """The command of a funnel."""
    options = ["--from", f"{question.first}", "--to", f"{question.last}"]
    options += ["--window", question.window]
    if question.any_order:
        options.append("--any-order")
    if question.by is not None:
        options.append(f"--by={question.by}")
    return _write("funnel", options, question.steps)


def write_retention_command(question: RetentionQuestion) -> str:
    """The command of a retention."""
    options = ["--from", f"{question.first}", "--to", f"{question.last}", "--by", question.by]
    return _write("retention", options, (question.start, question.return_))


def _write(name: str, options: Sequence[str], texts: Sequence[str]) -> str:
    """An event type may begin as an option does."""
    end = ["--"] if any(text.startswith("-") for text in texts) else []
    return shlex.join(["analytics", "stats", name, *options, *end, *texts])
