"""Judges an upload before its version turns ACTIVE: files, PEFT config, weights. No torch, SQL or gRPC."""

from services.adapter_store.manifest.file_list import check_files
from services.adapter_store.manifest.validation import validate

__all__ = ["check_files", "validate"]
