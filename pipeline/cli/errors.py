"""From an exception to the one line a user reads, or None when the exception is a fault of ours."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import PipelineError
from pipeline.server_errors import describe, walk_causes
from pipeline.system.extras import explain_missing


def explain(error: BaseException) -> str | None:
    """What was wrong and what to do, on one line; None for an unexpected exception."""
    for one in walk_causes(error):
        text = str(one) if isinstance(one, PipelineError) else _explain_other(one)
        if text is not None:
            return " ".join(text.split())
    return None


def find_undecodable(error: BaseException, arguments: Sequence[str]) -> str | None:
    """The argument whose bytes are no UTF-8, where that is what the exception is about."""
    if not any(isinstance(one, UnicodeEncodeError) for one in walk_causes(error)):
        return None
    return next((one for one in arguments if _has_bytes(one)), None)


def _has_bytes(text: str) -> bool:
    return any("\udc80" <= one <= "\udcff" for one in text)


def _explain_other(error: BaseException) -> str | None:
    return describe(error) or explain_missing(error) or _explain_system(error)


def _explain_system(error: BaseException) -> str | None:
    """A full disk, a directory that may not be written, and the like."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {error.strerror}{where}; correct that and try again"
    return None
