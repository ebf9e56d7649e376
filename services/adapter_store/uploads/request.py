"""One StartUpload whose fields have been checked, and what tells it from another. Knows no files' rules."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from services.adapter_store.domain.fields import check_labels, check_range, check_text
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import Lineage, VersionFile, adapter_key
from services.common.manifest_signature import Signature


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What is to become a version of `name`."""

    name: AdapterName
    files: tuple[VersionFile, ...]
    labels: dict[str, str]
    lineage: Lineage
    request_id: str
    signature: Signature | None

    @classmethod
    def checked(
        cls,
        name: AdapterName,
        files: tuple[VersionFile, ...],
        labels: Mapping[str, str],
        lineage: Lineage,
        request_id: str,
        signature: Signature | None,
    ) -> Self:
        """Raises INVALID_FIELD."""
        for field, text in asdict(lineage).items():
            check_text(text, f"lineage.{field}", max_chars=4096 if field == "notes" else 512)
        check_text(request_id, "request_id", max_chars=128)
        if signature is not None:
            check_text(signature.key_id, "signature.key_id", max_chars=63, required=True)
            check_range(len(signature.signature), "signature.signature", low=64, high=64)
        return cls(name, files, check_labels(labels), lineage, request_id, signature)

    @property
    def fingerprint(self) -> str:
        """Tells one request from another under the same request_id."""
        content = [adapter_key(self.files), self.labels, asdict(self.lineage)]
        if self.signature is not None:
            content += [self.signature.key_id, self.signature.signature.hex()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
