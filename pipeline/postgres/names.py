"""Where our tables are: in the schema that the settings name, else where `search_path` leads.

Texts of SQL write `schema$.` before each table of ours, and the engine's compiler puts the schema's
name, or nothing, in its place. Statements made of SQLAlchemy's constructs get the name by
`schema_translate_map`. So it stands in every statement, and no session has to be set up: behind
pgbouncer the next transaction may run in another.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg

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
    """Have every statement of the engine name tables of ours in this schema. Texts get it when they
    are compiled, which SQLAlchemy does once for each."""
    qualifier = _qualify(schema)

    class Compiler(PGCompiler_psycopg):
        def post_process_text(self, text: str) -> str:
            placed = text.replace(f"{MARK}.", qualifier)
            return str(super().post_process_text(placed))  # type: ignore[no-untyped-call]

    engine.dialect.statement_compiler = Compiler
    if schema is not None:
        engine.update_execution_options(schema_translate_map={None: schema})


def _qualify(schema: str | None) -> str:
    return "" if schema is None else f"{quote(schema)}."
