"""What imports are tried with: an adapter to be, its files, and one call a test."""

from pathlib import Path

import pytest

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import Lineage
from services.adapter_store.imports import ImportRequest
from services.common.errors import ServiceError
from tests.adapter_files import adapter_files

NAME = AdapterName("acme", "support")
ACTOR = Actor("tester", "ImportVersion")
TRAINING = {"optimizer.pt": b"PK\x03\x04", "training_args.bin": b"\x80\x02x", "notes.pdf": b"%PDF"}
FILES = adapter_files() | {"README.md": b"# support"}


def run(
    store,
    source,
    request_id="",
    labels=None,
    lineage=None,
    report=lambda _: None,
    cancelled=None,
    signature=None,
):
    request = ImportRequest(NAME, source, labels or {}, lineage or Lineage(), request_id, signature)
    return store.importer.run(request, ACTOR, report, cancelled or (lambda: False))


def refusal(store, source, **more):
    with pytest.raises(ServiceError) as caught:
        run(store, source, **more)
    return caught.value


def write(directory: Path, files):
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)
    return directory


def paths(version):
    return [file.path for file in version.files]
