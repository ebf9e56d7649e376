"""Bytes of uploads on their way in: the port, and what lies behind it."""

from services.adapter_store.staging.local_staging import LocalStaging
from services.adapter_store.staging.refusals import incomplete, too_long, wrong_offset
from services.adapter_store.staging.staging import FileStage, Staging

__all__ = ["FileStage", "LocalStaging", "Staging", "incomplete", "too_long", "wrong_offset"]
