"""Annotations: a note at a moment, which charts show. Shared by all who may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import IntegrityError

from pipeline.errors import InvalidEntry
from pipeline.sharing.texts import check_text

MOST_CHARACTERS = 500
MOST_KEPT = 10_000
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_COLUMNS = "id, at, text, changed_by, changed_at"
_LIST = text(
    f"SELECT {_COLUMNS} FROM schema$.analytics_annotations "
    "WHERE at >= :begin AND at < :end ORDER BY at DESC, id DESC OFFSET :offset LIMIT :most"
)
_COUNT = text("SELECT count(*) FROM schema$.analytics_annotations")
_FIND = text(f"SELECT {_COLUMNS} FROM schema$.analytics_annotations WHERE id = :id")
_FIND_SAME = text(
    f"SELECT {_COLUMNS} FROM schema$.analytics_annotations WHERE at = :at AND text = :text"
)
_ADD = text(
    "INSERT INTO schema$.analytics_annotations (at, text, changed_by, changed_at) "
    "VALUES (:at, :text, :by, clock_timestamp()) ON CONFLICT (at, text) DO NOTHING "
    f"RETURNING {_COLUMNS}"
)
_CHANGE = text(
    "UPDATE schema$.analytics_annotations SET at = :at, text = :text, changed_by = :by, "
    f"changed_at = clock_timestamp() WHERE id = :id RETURNING {_COLUMNS}"
)
_REMOVE = text("DELETE FROM schema$.analytics_annotations WHERE id = :id")


@dataclass(frozen=True)
class Annotation:
    """A note at a moment."""

    id: int
    at: datetime
    """Aware, UTC."""
    text: str
    changed_by: str
    """Id of the read token that wrote it."""
    changed_at: datetime

    def describe(self) -> dict[str, Any]:
        """The annotation, JSON-ready."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "text": self.text,
            "changed_by": self.changed_by,
            "changed_at": self.changed_at.isoformat(),
        }


@dataclass(frozen=True)
class Annotations:
    """The annotations in this Postgres. Every method raises sqlalchemy.exc.DBAPIError."""

    engine: Engine

    def list_newest(
        self,
        begin: datetime = _FIRST,
        end: datetime = _LAST,
        *,
        most: int = 1_000,
        offset: int = 0,
    ) -> list[Annotation]:
        """Those from `begin` to before `end`, the latest moment first."""
        wanted = {"begin": begin, "end": end, "most": most, "offset": offset}
        with self.engine.connect() as connection:
            return [_read(row) for row in connection.execute(_LIST, wanted)]

    def count(self) -> int:
        """How many there are."""
        with self.engine.connect() as connection:
            return _count(connection)

    def find(self, annotation_id: int) -> Annotation | None:
        """The annotation with this id."""
        with self.engine.connect() as connection:
            row = connection.execute(_FIND, {"id": annotation_id}).one_or_none()
        return None if row is None else _read(row)

    def add(self, at: datetime, said: str, by: str) -> Annotation:
        """Keep a note of `by`, the id of a read token. A repeat adds none: the same text at the
        same moment is one annotation. Raises `InvalidEntry`."""
        values = _check(at, said, by)
        with self.engine.begin() as connection:
            if _count(connection) >= MOST_KEPT:
                raise InvalidEntry("text", f"there are {MOST_KEPT} annotations: delete old ones")
            row = connection.execute(_ADD, values).one_or_none()
            row = row or connection.execute(_FIND_SAME, values).one()
        return _read(row)

    def change(self, annotation_id: int, at: datetime, said: str, by: str) -> Annotation | None:
        """The annotation with another moment and text; None where it is gone. May be repeated.
        Raises `InvalidEntry`."""
        values = {**_check(at, said, by), "id": annotation_id}
        try:
            with self.engine.begin() as connection:
                row = connection.execute(_CHANGE, values).one_or_none()
        except IntegrityError as error:
            raise InvalidEntry("text", "there is the same annotation at that moment") from error
        return None if row is None else _read(row)

    def remove(self, annotation_id: int) -> bool:
        """Whether it was there; it is not any more."""
        with self.engine.begin() as connection:
            return connection.execute(_REMOVE, {"id": annotation_id}).rowcount > 0


def _check(at: datetime, said: str, by: str) -> Mapping[str, Any]:
    try:
        is_kept = _FIRST <= at < _LAST
    except TypeError as error:
        raise InvalidEntry("at", "has no time zone: add one, such as Z") from error
    if not is_kept:
        raise InvalidEntry("at", f"{at} is out of bounds: give a year from 1970 to 9998")
    return {"at": at, "text": check_text("text", said, MOST_CHARACTERS), "by": by}


def _count(connection: Connection) -> int:
    found: int = connection.execute(_COUNT).scalar_one()
    return found


def _read(row: Row[Any]) -> Annotation:
    return Annotation(
        row.id, row.at.astimezone(UTC), row.text, row.changed_by, row.changed_at.astimezone(UTC)
    )
