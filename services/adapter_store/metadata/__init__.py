"""Rows in SQL: the only package that imports SQLAlchemy, with the migrations. Knows no gRPC and no blobs."""

from services.adapter_store.metadata.answers import Conflict, repeated
from services.adapter_store.metadata.change_signal import ChangeSignal
from services.adapter_store.metadata.database import Database
from services.adapter_store.metadata.schema import Migration, migrate
from services.adapter_store.metadata.unit_of_work import UnitOfWork

__all__ = ["ChangeSignal", "Conflict", "Database", "Migration", "UnitOfWork", "migrate", "repeated"]
