"""Fills in where a version's files can be fetched without this store."""

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.blobs import BlobStore
from services.adapter_store.servicer.wire import timestamp


def add_read_urls(version: pb.AdapterVersion, blobs: BlobStore) -> pb.AdapterVersion:
    """The same message, with a URL for each file where blobs lie in object storage."""
    for file in version.files:
        found = blobs.read_url(file.sha256)
        if found is not None:
            file.read_url = found.url
            file.read_url_expire_time.CopyFrom(timestamp(found.expire_time))
    return version
