"""Saved views: a name for an address of the dashboard. Shared by all who may read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import IntegrityError

from pipeline.errors import InvalidEntry
from pipeline.sharing.texts import check_text

MOST_NAME_CHARACTERS = 80
MOST_URL_CHARACTERS = 8_000
MOST_KEPT = 200
_PAGE = re.compile(r"/dashboard(/[a-z-]+)*(\?[!-~]*)?")
"""Path and query of a page of ours: a link to it can lead nowhere else, and run nothing."""
_COLUMNS = "id, name, url, changed_by, changed_at"
_LIST = text(f"SELECT {_COLUMNS} FROM schema$.analytics_saved_views ORDER BY lower(name), id")
_COUNT = text("SELECT count(*) FROM schema$.analytics_saved_views WHERE name <> :name")
_SAVE = text(
    "INSERT INTO schema$.analytics_saved_views (name, url, changed_by, changed_at) "
    "VALUES (:name, :url, :by, clock_timestamp()) ON CONFLICT (name) DO UPDATE SET "
    "url = excluded.url, changed_by = excluded.changed_by, changed_at = excluded.changed_at "
    f"RETURNING {_COLUMNS}"
)
_RENAME = text(
    "UPDATE schema$.analytics_saved_views SET name = :name, changed_by = :by, "
    "changed_at = clock_timestamp() WHERE id = :id"
)
_REMOVE = text("DELETE FROM schema$.analytics_saved_views WHERE id = :id")


@dataclass(frozen=True)
class SavedView:
    """A name for an address."""

    id: int
    name: str
    url: str
    changed_by: str
    """Id of the read token that wrote it."""
    changed_at: datetime

    def describe(self) -> dict[str, Any]:
        """The view, JSON-ready."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "changed_by": self.changed_by,
            "changed_at": self.changed_at.isoformat(),
        }


@dataclass(frozen=True)
class SavedViews:
    """The saved views in this Postgres. Every method raises sqlalchemy.exc.DBAPIError."""

    engine: Engine

    def list_all(self) -> list[SavedView]:
        """All of them, by name."""
        with self.engine.connect() as connection:
            return [_read(row) for row in connection.execute(_LIST)]

    def save(self, name: str, url: str, by: str) -> SavedView:
        """Keep the address under this name, as the view that is returned; that of another view with
        the name is replaced. May be repeated. Raises `InvalidEntry`."""
        name = check_text("name", name, MOST_NAME_CHARACTERS)
        if len(url) > MOST_URL_CHARACTERS or not _PAGE.fullmatch(url):
            raise InvalidEntry("url", "is no address of a page of the dashboard: save it there")
        with self.engine.begin() as connection:
            if connection.execute(_COUNT, {"name": name}).scalar_one() >= MOST_KEPT:
                raise InvalidEntry("name", f"there are {MOST_KEPT} saved views: delete some")
            row = connection.execute(_SAVE, {"name": name, "url": url, "by": by}).one()
        return _read(row)

    def rename(self, view_id: int, name: str, by: str) -> bool:
        """Give it another name; whether it was there. May be repeated. Raises `InvalidEntry`."""
        name = check_text("name", name, MOST_NAME_CHARACTERS)
        try:
            with self.engine.begin() as connection:
                values = {"id": view_id, "name": name, "by": by}
                return connection.execute(_RENAME, values).rowcount > 0
        except IntegrityError as error:
            raise InvalidEntry("name", "another view has this name: choose another") from error

    def remove(self, view_id: int) -> bool:
        """Whether it was there; it is not any more."""
        with self.engine.begin() as connection:
            return connection.execute(_REMOVE, {"id": view_id}).rowcount > 0


def _read(row: Row[Any]) -> SavedView:
    return SavedView(row.id, row.name, row.url, row.changed_by, row.changed_at.astimezone(UTC))
