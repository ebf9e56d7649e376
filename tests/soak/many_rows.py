"""Fills a PostgreSQL with adapters and versions as a long life would leave them, by COPY."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionFile, adapter_key
from tests.adapter_files import BASE_MODEL

VERSIONS_EACH = 10
NUM_TENANTS = 10
PRODUCTION, STAGING = 7, 9
_TIME_US = 1_900_000_000_000_000
_ADAPTER = "id tenant adapter base_model display_name description labels revision last_version create_time_us"
_VERSION = (
    "adapter_id version base_model base_model_digest key state status_message rank alpha target_modules"
)
_COLUMNS = {
    "adapters": f"{_ADAPTER} update_time_us",
    "versions": f"{_VERSION} rslora dora num_parameters labels lineage create_time_us",
    "version_files": "adapter_id version position path size_bytes sha256 stored",
    "aliases": "adapter_id alias version revision update_time_us",
}


def name_of(number: int) -> AdapterName:
    """The name of the adapter of this number, from 0."""
    return AdapterName(f"tenant-{number % NUM_TENANTS}", f"adapter-{number:06}")


def fill(url: str, num_adapters: int) -> None:
    """Makes `num_adapters` with VERSIONS_EACH versions and two aliases each; statistics are up to date."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO base_models (name, digest, architecture, hidden_size, num_layers, max_rank, modules)"
            " VALUES (%s, %s, 'tiny', 8, 2, 64, '[]')",
            (BASE_MODEL.name, BASE_MODEL.digest),
        )
        rows = {"adapters": _adapters, "versions": _versions, "version_files": _files, "aliases": _aliases}
        for table, make in rows.items():
            columns = ", ".join(_COLUMNS[table].split())
            with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in make(num_adapters):
                    copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _adapters(num_adapters: int) -> Iterator[Sequence[Any]]:
    for number in range(num_adapters):
        name = name_of(number)
        labels = json.dumps({"team": f"team-{number % 7}"})
        place = (
            number + 1,
            name.tenant,
            name.adapter,
            BASE_MODEL.name,
            "Display name",
            "What it is for. " * 8,
        )
        yield (*place, labels, 1, VERSIONS_EACH, _TIME_US, _TIME_US)


def _versions(num_adapters: int) -> Iterator[Sequence[Any]]:
    lineage = json.dumps({"run_id": "run", "parent_version": "", "dataset": "", "notes": "n" * 100})
    modules = json.dumps(["q_proj", "v_proj"])
    for number in range(num_adapters):
        for version in range(1, VERSIONS_EACH + 1):
            key = adapter_key(_files_of(number, version))
            judged = (8, 16.0, modules, False, False, 1 << 20)
            place = (number + 1, version, BASE_MODEL.name, BASE_MODEL.digest, key, "ACTIVE", "")
            yield (*place, *judged, "{}", lineage, _TIME_US)


def _files(num_adapters: int) -> Iterator[Sequence[Any]]:
    for number in range(num_adapters):
        for version in range(1, VERSIONS_EACH + 1):
            for position, file in enumerate(_files_of(number, version)):
                yield (number + 1, version, position, file.path, file.size_bytes, file.sha256, True)


def _aliases(num_adapters: int) -> Iterator[Sequence[Any]]:
    for number in range(num_adapters):
        yield (number + 1, "production", PRODUCTION, 1, _TIME_US)
        yield (number + 1, "staging", STAGING, 1, _TIME_US)


def _files_of(number: int, version: int) -> list[VersionFile]:
    weights = hashlib.sha256(f"{number}/{version}".encode()).hexdigest()
    return [
        VersionFile("adapter_config.json", 512, "c" * 64),
        VersionFile("adapter_model.safetensors", 1 << 22, weights),
    ]
