"""What Alembic runs: the migrations, inside the transaction that `metadata.schema` opened."""

from alembic import context

from services.adapter_store.metadata.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
