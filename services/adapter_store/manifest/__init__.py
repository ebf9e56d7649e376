"""Judges what is uploaded, before a version turns ACTIVE: files, PEFT config, weights. No torch, no SQL, no gRPC."""

from services.adapter_store.manifest.file_list import check_files
from services.adapter_store.manifest.validation import validate

__all__ = ["check_files", "validate"]
