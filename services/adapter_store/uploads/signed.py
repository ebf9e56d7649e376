"""Holds a version to its tenant's rules of signatures, in the store; inference does so again by itself."""

from collections.abc import Sequence

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata import UnitOfWork
from services.common.manifest_signature import Manifest, Signature, bad_signature, check_signature


def check_signed(
    uow: UnitOfWork,
    adapter: AdapterName,
    version_name: str,
    base_model: str,
    files: Sequence[VersionFile],
    signature: Signature | None,
) -> None:
    """Raises BAD_SIGNATURE for a signature that is not good, and for none where the tenant asks for one."""
    tenant = uow.tenants.get(adapter.tenant)
    known = uow.base_models.get(base_model)
    manifest = Manifest(
        adapter=str(adapter),
        base_model=base_model,
        base_model_digest="" if known is None else known.digest,
        files=tuple((file.path, file.size_bytes, file.sha256) for file in files),
    )
    trusted = {key.key_id: key.public_key for key in tenant.trusted_keys}
    check_signature(version_name, manifest, signature, trusted, required=tenant.require_signatures)


def check_import_signed(uow: UnitOfWork, adapter: AdapterName, signature: Signature | None) -> None:
    """Before an import's bytes are read: raises BAD_SIGNATURE for what no bytes could make good."""
    tenant = uow.tenants.get(adapter.tenant)
    if signature is None and tenant.require_signatures:
        raise bad_signature(
            str(adapter),
            "is imported without a signature, and its tenant asks for one",
            [key.key_id for key in tenant.trusted_keys],
        )
