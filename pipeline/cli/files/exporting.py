"""Writing raw events to a file, as NDJSON or Parquet, some thousand at a time."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import msgspec

from pipeline.errors import InvalidConfiguration
from pipeline.event.model import Event
from pipeline.system.private_files import open_private

_ROW_GROUP = 50_000
_FASTER = 6
"""gzip's own default of 9 takes three times as long for two percent."""


class Writer(Protocol):
    """Writes events."""

    def write(self, events: Sequence[Event]) -> None:
        """Write some more."""


class Destination:
    """A file that appears under its name when it is whole; or standard output."""

    def __init__(self, name: str, *, compressed: bool) -> None:
        self._path = None if name == "-" else Path(name)
        self._part = None if name == "-" else Path(f"{name}.part")
        # The file has mode 0600: it holds user ids.
        self._raw: IO[bytes] = (
            os.fdopen(open_private(self._part), "wb") if self._part else sys.stdout.buffer
        )
        self.stream: IO[bytes] = self._raw
        if compressed:
            # No name and no time in it: the same events make the same file.
            self.stream = gzip.GzipFile("", "wb", _FASTER, self._raw, mtime=0)  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.stream is not self._raw:
            self.stream.close()
        self._raw.flush()
        if self._path is None or self._part is None:
            return
        if error is None:
            os.fsync(self._raw.fileno())
        self._raw.close()
        if error is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class NdjsonWriter(AbstractContextManager["NdjsonWriter"]):
    """An event object on each line, as `analytics import --format ndjson` reads it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._encode = msgspec.json.Encoder().encode_lines

    def write(self, events: Sequence[Event]) -> None:
        """Write some more lines."""
        self._stream.write(self._encode([event.to_dict() for event in events]))

    def __exit__(self, *_: object) -> None:
        """Nothing is held back."""


def load_parquet_writer() -> Callable[[IO[bytes]], AbstractContextManager[Writer]]:
    """A writer of Parquet files. Raises `InvalidConfiguration` where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidConfiguration(
            "Parquet needs pyarrow: pip install 'analytics-pipeline[parquet]', or export as ndjson"
        ) from error

    schema = pyarrow.schema(
        [
            pyarrow.field("event_type", pyarrow.string(), nullable=False),
            pyarrow.field("timestamp", pyarrow.timestamp("us", tz="UTC"), nullable=False),
            pyarrow.field("user_id", pyarrow.string()),
            pyarrow.field("properties", pyarrow.string()),
            pyarrow.field("event_id", pyarrow.string()),
        ]
    )

    class ParquetWriter(AbstractContextManager["ParquetWriter"]):
        """Properties are JSON text."""

        def __init__(self, stream: IO[bytes]) -> None:
            self._writer = parquet.ParquetWriter(stream, schema, compression="zstd")
            self._waiting: list[Event] = []

        def write(self, events: Sequence[Event]) -> None:
            self._waiting += events
            if len(self._waiting) >= _ROW_GROUP:
                self._write_group()

        def _write_group(self) -> None:
            events, self._waiting = self._waiting, []
            encode = msgspec.json.encode
            columns: list[list[Any]] = [
                [event.event_type for event in events],
                [event.timestamp for event in events],
                [event.user_id for event in events],
                [
                    None if event.properties is None else encode(event.properties).decode()
                    for event in events
                ],
                [event.event_id for event in events],
            ]
            self._writer.write_table(pyarrow.table(columns, schema=schema))

        def __exit__(self, *_: object) -> None:
            if self._waiting:
                self._write_group()
            self._writer.close()

    return ParquetWriter
