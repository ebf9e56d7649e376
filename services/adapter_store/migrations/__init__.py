"""Alembic's migrations of the store's tables; README.md says how to make one. Knows the tables alone."""
