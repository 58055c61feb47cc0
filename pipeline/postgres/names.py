"""Where our tables are: in the schema that the settings name, else where `search_path` leads.

Texts of SQL write `schema$.` before each table of ours, and the engine puts the schema's name, or
nothing, in its place. Statements made of SQLAlchemy's constructs get the name by
`schema_translate_map`. So it stands in every statement, and no session has to be set up: behind
pgbouncer the next transaction may run in another.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event

MARK = "schema$"
"""Stands for the schema in texts of SQL, before a dot."""


def quote(name: str) -> str:
    """The name as SQL writes it, its capitals kept."""
    return '"' + name.replace('"', '""') + '"'


def find_schema(owner: Engine | Connection) -> str | None:
    """The schema that the engine was made for; None where `search_path` decides."""
    named: dict[str | None, str] = owner.get_execution_options().get("schema_translate_map", {})
    return named.get(None)


def place_tables(statement: str, owner: Engine | Connection) -> str:
    """The statement with the engine's schema in place of every mark, for what does not pass through
    SQLAlchemy."""
    return statement.replace(f"{MARK}.", _qualify(find_schema(owner)))


def use_schema(engine: Engine, schema: str | None) -> None:
    """Have every statement of the engine name tables of ours in this schema."""
    qualifier = _qualify(schema)

    def place(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace(f"{MARK}.", qualifier), parameters

    event.listen(engine, "before_cursor_execute", place, retval=True)
    if schema is not None:
        engine.update_execution_options(schema_translate_map={None: schema})


def _qualify(schema: str | None) -> str:
    return "" if schema is None else f"{quote(schema)}."
