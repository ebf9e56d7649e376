"""Compares rows with rows and rows with bytes: what must hold of a store that is at rest."""

from services.adapter_store.blobs import BlobStore
from services.adapter_store.domain.upload import Upload, UploadState
from services.adapter_store.domain.version import AdapterVersion, VersionState, adapter_key
from services.adapter_store.metadata import Database, UnitOfWork
from services.adapter_store.staging import Staging


def check_integrity(database: Database, blobs: BlobStore, staging: Staging) -> list[str]:
    """What is wrong, one line each. Reads every blob that a version or tenant refers to."""
    problems: list[str] = []
    with database.read() as uow:
        uploads = [found for upload_id in uow.uploads.open_ids() if (found := uow.uploads.get(upload_id))]
        problems += _check_numbers(uow)
        problems += _check_aliases(uow)
        for adapter_id, number, _ in uow.versions.states():
            version = uow.versions.get(adapter_id, number)
            assert version is not None, "read in the same transaction"
            problems += _check_version(version, blobs)
        problems += _check_creating(uow, uploads)
        problems += _check_counts(uow)
        for sha256, size_bytes in uow.uploads.tenant_blobs():
            if not blobs.is_intact(sha256, size_bytes):
                problems.append(f"blob {sha256} of {size_bytes} bytes is missing or changed")
    problems += staging.problems(upload for upload in uploads if upload.state is UploadState.OPEN)
    problems += [
        f"{path} was left by an interrupted write: the next start drops it" for path in blobs.leftovers()
    ]
    return problems


def describe(database: Database) -> str:
    """Versions and uploads counted by state, such as `versions ACTIVE=2 FAILED=1, uploads FINISHED=2`."""
    with database.read() as uow:
        counts = {"versions": uow.versions.count_by_state(), "uploads": uow.uploads.count_by_state()}
    return ", ".join(
        " ".join([noun, *([f"{state}={n}" for state, n in sorted(by_state.items())] or ["none"])])
        for noun, by_state in counts.items()
    )


def _check_numbers(uow: UnitOfWork) -> list[str]:
    numbers_of: dict[int, list[int]] = {}
    for adapter_id, number, _ in uow.versions.states():
        numbers_of.setdefault(adapter_id, []).append(number)
    return [
        f"adapter {adapter_id} has versions {numbers_of.get(adapter_id, [])}, not 1 to {last}"
        for adapter_id, last in uow.adapters.last_versions().items()
        if numbers_of.get(adapter_id, []) != [*range(1, last + 1)]
    ]


def _check_aliases(uow: UnitOfWork) -> list[str]:
    there = {
        (adapter_id, number)
        for adapter_id, number, state in uow.versions.states()
        if state is not VersionState.DELETED
    }
    return [
        f"alias {alias} of adapter {adapter_id} points at version {version}, which is not there"
        for adapter_id, alias, version in uow.aliases.targets()
        if (adapter_id, version) not in there
    ]


def _check_version(version: AdapterVersion, blobs: BlobStore) -> list[str]:
    problems = []
    if version.key != adapter_key(version.files):
        problems.append(f"{version.name}: its key is not that of its files")
    whole = version.state in (VersionState.ACTIVE, VersionState.DISABLED)
    # A version may be deleted before it was validated, or after.
    if version.state is not VersionState.DELETED and whole != (version.weights is not None):
        problems.append(f"{version.name} is {version.state} with weights {version.weights}")
    if whole:
        problems += [
            f"{version.name}: {file.path} is missing or changed in the blob store"
            for file in version.files
            if not blobs.is_intact(file.sha256, file.size_bytes)
        ]
    return problems


def _check_counts(uow: UnitOfWork) -> list[str]:
    counted, anew = uow.tenant_counts.counted(), uow.tenant_counts.recounted()
    nothing = (0, 0)
    problems = [
        f"tenants/{tenant}: (bytes, versions) are counted as {counted.get(tenant, nothing)}, and are "
        f"{anew.get(tenant, nothing)}"
        for tenant in sorted(counted.keys() | anew.keys())
        if counted.get(tenant, nothing) != anew.get(tenant, nothing)
    ]
    return problems + [
        f"tenants/{tenant}: its versions that refer to {sha256} are miscounted"
        for tenant, sha256 in uow.tenant_counts.wrong_files()
    ]


def _check_creating(uow: UnitOfWork, uploads: list[Upload]) -> list[str]:
    creating = {(i, number) for i, number, state in uow.versions.states() if state is VersionState.CREATING}
    uploading = {(upload.adapter_id, upload.version) for upload in uploads}
    return [
        f"version {number} of adapter {adapter_id}: CREATING without an open upload, or the reverse"
        for adapter_id, number in sorted(creating ^ uploading)
    ]
