"""How Alembic runs a migration: on the connection and inside the transaction that the caller opened."""

from alembic import context

from api.storage.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
with context.begin_transaction():
    context.run_migrations()
