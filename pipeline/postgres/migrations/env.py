"""Alembic's entry: runs the migrations on the connection that `schema.migrate` hands over."""

from alembic import context

from pipeline.postgres.fitness import VERSION_TABLE
from pipeline.postgres.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
