"""Rows in SQL: the only package that imports SQLAlchemy. Knows no gRPC and no blobs."""

from services.adapter_store.metadata.change_signal import ChangeSignal
from services.adapter_store.metadata.database import Database
from services.adapter_store.metadata.unit_of_work import UnitOfWork

__all__ = ["ChangeSignal", "Database", "UnitOfWork"]
