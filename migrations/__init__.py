"""Changes of the database schema, oldest first in ``versions``. Nothing imports this package; Alembic reads it."""
