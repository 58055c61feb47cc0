"""What a check found: that a thing is fine, or wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import PipelineError, ServerUnavailable

State = Literal["fine", "wrong", "away", "unknown"]


@dataclass(frozen=True)
class Check:
    """`name` says what was checked, `what` what was found, `remedy` what to do about it.

    "away" is a server that does not answer, "unknown" what could not be checked with the rights at
    hand.
    """

    name: str
    state: State
    what: str
    remedy: str = ""


def split(name: str, state: State, sentence: str) -> Check:
    """A check from a sentence of the form "what is wrong: what to do"."""
    what, _, remedy = " ".join(sentence.split()).partition(": ")
    return Check(name, state, what, remedy)


def find_refusal(name: str, check: Callable[[], object], fine: str) -> Iterator[Check]:
    """Run a check that raises what it finds; yields one line. What is no error of the pipeline's
    passes through."""
    try:
        check()
    except ServerUnavailable as error:
        yield Check(name, "away", f"{error}")
    except PipelineError as error:
        yield split(name, "wrong", f"{error}")
    else:
        yield Check(name, "fine", fine)
