"""Log lines on standard error: for people, or as one JSON object each for a collector. They have
the ids of tasks and batches, and no user's."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

_TEXT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
_IDS = ("task_id", "batch_id")
_JSON_NAMES = {
    "asctime": "time",
    "levelname": "level",
    "name": "logger",
    "exc_info": "exception",
    "stack_info": "stack",
}


class TextFormatter(logging.Formatter):
    """Time (UTC), level, process, logger, message, and the ids of the task and of the batch."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return _format_timestamp(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        ids = [f" {name}={getattr(record, name)}" for name in _IDS if hasattr(record, name)]
        return super().formatMessage(record) + "".join(ids)


def make_json_formatter() -> logging.Formatter:
    """One JSON object a line; what is given as `extra=` becomes further fields."""
    from pythonjsonlogger.json import JsonFormatter

    formatter: logging.Formatter = JsonFormatter(
        ["asctime", "levelname", "process", "name", "message"],
        rename_fields=_JSON_NAMES,
        json_default=str,
        json_ensure_ascii=False,
    )
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    return formatter


def note_task(record: logging.LogRecord) -> bool:
    """Put the id and the name of the Celery task that this thread runs on the record, as `task_id`
    and `task`, unless the record says of which task it is. Never drops one."""
    state = sys.modules.get("celery._state")  # else there is no task
    task = state.get_current_task() if state is not None else None
    if task is not None and task.request.id is not None and not hasattr(record, "task_id"):
        record.task_id, record.task = task.request.id, task.name
    return True


def configure(level: str | int, format: Literal["text", "json"]) -> None:  # noqa: A002
    """Send the whole process's log to standard error; a repeat replaces what was set before.

    `level` is a name such as "INFO" or the standard library's number. Warnings of Python's own
    `warnings` module are logged too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(make_json_formatter() if format == "json" else TextFormatter())
    handler.addFilter(note_task)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _format_timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
