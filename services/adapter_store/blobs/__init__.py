"""Content-addressed bytes: the port, and what lies behind it."""

from services.adapter_store.blobs.blob_store import CHUNK_BYTES, BlobStore, corrupt
from services.adapter_store.blobs.local_blobs import LocalBlobs
from services.adapter_store.blobs.read_range import read_range

__all__ = ["CHUNK_BYTES", "BlobStore", "LocalBlobs", "corrupt", "read_range"]
