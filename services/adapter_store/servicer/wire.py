"""Domain values to and from protobuf messages. Decides nothing."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.catalog.lookup import Resolution
from services.adapter_store.domain.adapter import Adapter
from services.adapter_store.domain.alias import Alias, AliasMove, Shadow, TrafficTarget
from services.adapter_store.domain.base_model import BaseModel, Module
from services.adapter_store.domain.change import Change
from services.adapter_store.domain.garbage import Garbage
from services.adapter_store.domain.lease import Lease
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import PersistedFile, Upload
from services.adapter_store.domain.version import AdapterVersion, Lineage, VersionFile
from services.adapter_store.metadata.timestamps import to_seconds
from services.common.manifest_signature import Signature


def timestamp(time: datetime) -> Timestamp:
    """An aware time as a Timestamp."""
    return Timestamp(**_time_fields(time))


def _time_fields(time: datetime) -> dict[str, int]:
    # As a message's constructor takes it: a Timestamp would be made to be copied, 200 of them a page.
    seconds, microseconds = to_seconds(time)
    return {"seconds": seconds, "nanos": microseconds * 1000}


def base_model_from(message: pb.BaseModel) -> BaseModel:
    """A base model as the caller describes it; not checked yet."""
    return BaseModel(
        name=message.base_model,
        digest=message.digest,
        architecture=message.architecture,
        hidden_size=message.hidden_size,
        num_layers=message.num_layers,
        modules=tuple(Module(m.name, m.in_features, m.out_features) for m in message.modules),
        max_rank=message.max_rank,
    )


def base_model(model: BaseModel) -> pb.BaseModel:
    """A base model's message."""
    return pb.BaseModel(
        base_model=model.name,
        digest=model.digest,
        architecture=model.architecture,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        modules=[
            pb.Module(name=m.name, in_features=m.in_features, out_features=m.out_features)
            for m in model.modules
        ],
        max_rank=model.max_rank,
    )


def targets_from(messages: Iterable[pb.TrafficTarget]) -> tuple[TrafficTarget, ...]:
    """Targets of a split as the caller gives them; not checked yet."""
    return tuple(TrafficTarget(m.version, m.weight) for m in messages)


def targets(values: Iterable[TrafficTarget]) -> list[pb.TrafficTarget]:
    """Messages of targets."""
    return [pb.TrafficTarget(version=t.version, weight=t.weight) for t in values]


def shadow_from(message: pb.SetAliasRequest) -> Shadow | None:
    """The shadow that the caller asks for; not checked yet."""
    if not message.HasField("shadow"):
        return None
    return Shadow(message.shadow.version, message.shadow.sample_rate)


def shadow(value: Shadow) -> pb.Shadow:
    """A shadow's message."""
    return pb.Shadow(version=value.version, sample_rate=value.sample_rate)


def alias(name: AdapterName, value: Alias) -> pb.Alias:
    """An alias's message."""
    return pb.Alias(**_alias_fields(name, value))


def _alias_fields(name: AdapterName, value: Alias) -> dict[str, Any]:
    fields = {
        "name": name.alias(value.name),
        "version": value.version,
        "update_time": _time_fields(value.update_time),
        "revision": value.revision,
    }
    if value.aim.targets:
        fields["targets"] = targets(value.aim.targets)
    if value.aim.shadow is not None:
        fields["shadow"] = shadow(value.aim.shadow)
    return fields


def alias_move(move: AliasMove) -> pb.AliasMove:
    """A move's message."""
    message = pb.AliasMove(
        from_version=move.from_version,
        to_version=move.to_version,
        time=timestamp(move.time),
        moved_by=move.moved_by,
        revision=move.revision,
    )
    if move.to is not None:
        message.to_targets.extend(targets(move.to.targets))
        if move.to.shadow is not None:
            message.to_shadow.CopyFrom(shadow(move.to.shadow))
    return message


def adapter(value: Adapter) -> pb.Adapter:
    """An adapter's message."""
    return pb.Adapter(
        name=str(value.name),
        base_model=value.base_model,
        display_name=value.display_name,
        description=value.description,
        labels=value.labels,
        aliases=[_alias_fields(value.name, one) for one in value.aliases],
        latest_version=value.latest_version,
        etag=value.etag,
        create_time=_time_fields(value.create_time),
        update_time=_time_fields(value.update_time),
    )


def files_from(messages: Iterable[pb.VersionFile]) -> tuple[VersionFile, ...]:
    """Files as the caller declares them; not checked yet."""
    return tuple(VersionFile(m.path, m.size_bytes, m.sha256) for m in messages)


def files(values: Iterable[VersionFile]) -> list[pb.VersionFile]:
    """Messages of files."""
    return [pb.VersionFile(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256) for f in values]


def lineage_from(message: pb.Lineage) -> Lineage:
    """Lineage as the caller gives it; not checked yet."""
    return Lineage(message.run_id, message.parent_version, message.dataset, message.notes)


def signature_from(message: pb.StartUploadRequest | pb.ImportVersionRequest) -> Signature | None:
    """The signature that the caller gives, if any; not checked yet."""
    if not message.HasField("signature"):
        return None
    return Signature(message.signature.key_id, message.signature.signature)


def version(value: AdapterVersion) -> pb.AdapterVersion:
    """A version's message; what only validation knows stays empty before it."""
    message = pb.AdapterVersion(
        name=value.name,
        version=value.version,
        key=value.key,
        state=value.state.value,
        status_message=value.status_message,
        files=files(value.files),
        size_bytes=value.size_bytes,
        labels=value.labels,
        lineage=pb.Lineage(
            run_id=value.lineage.run_id,
            parent_version=value.lineage.parent_version,
            dataset=value.lineage.dataset,
            notes=value.lineage.notes,
        ),
        create_time=timestamp(value.create_time),
        base_model=value.base_model,
        base_model_digest=value.base_model_digest,
    )
    if value.signature is not None:
        message.signature.key_id = value.signature.key_id
        message.signature.signature = value.signature.signature
    if value.weights is not None:
        message.rank = value.weights.rank
        message.alpha = value.weights.alpha
        message.target_modules.extend(value.weights.target_modules)
        message.flags.rslora = value.weights.rslora
        message.flags.dora = value.weights.dora
        message.num_parameters = value.weights.num_parameters
    return message


def resolution(value: Resolution) -> pb.AdapterVersion:
    """What ResolveVersion answers."""
    message = version(value.version)
    message.targets.extend(targets(value.targets))
    if value.shadow is not None:
        message.shadow.CopyFrom(shadow(value.shadow))
    return message


def change(value: Change) -> pb.Change:
    """A change's message."""
    return pb.Change(kind=value.kind.value, name=value.resource, time=timestamp(value.time))


def persisted(values: Sequence[PersistedFile]) -> list[pb.PersistedFile]:
    """Messages of how far each file has come."""
    return [pb.PersistedFile(path=p.path, persisted_bytes=p.persisted_bytes) for p in values]


def started(upload: Upload, values: Sequence[PersistedFile]) -> pb.StartUploadResponse:
    """What StartUpload answers."""
    return pb.StartUploadResponse(
        upload_id=upload.id,
        adapter_version=upload.adapter.version(upload.version),
        persisted=persisted(values),
    )


def upload_status(upload: Upload, values: Sequence[PersistedFile]) -> pb.UploadStatus:
    """What GetUpload answers."""
    return pb.UploadStatus(
        upload_id=upload.id,
        adapter_version=upload.adapter.version(upload.version),
        files=files(upload.files),
        persisted=persisted(values),
        create_time=timestamp(upload.create_time),
    )


def lease(value: Lease) -> pb.Lease:
    """A lease's message."""
    return pb.Lease(
        lease_id=value.id,
        holder=value.holder,
        num_keys=value.num_keys,
        expire_time=timestamp(value.expire_time),
    )


def garbage(value: Garbage) -> pb.CollectGarbageResponse:
    """What CollectGarbage answers."""
    return pb.CollectGarbageResponse(
        freed_blobs=value.freed_blobs,
        freed_bytes=value.freed_bytes,
        orphaned_blobs=value.orphaned_blobs,
        missing_sha256s=value.missing_sha256s,
        expired_uploads=value.expired_uploads,
    )
