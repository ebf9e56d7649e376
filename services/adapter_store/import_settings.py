"""Settings of what ImportVersion may read. Opens nothing."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.adapter_store.blobs.s3_place import S3Endpoint, parse_endpoint
from services.adapter_store.imports.hub_source import Hub
from services.adapter_store.imports.opening import ImportPlaces
from services.adapter_store.imports.s3_source import BUCKET_NAME, S3
from services.adapter_store.imports.scratch_room import DEFAULT_MAX_BYTES
from services.common.settings import s3_credentials, setting


# Without slots, so that it can stand beside another base that has them.
@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """To be inherited beside a store's other settings; `check_imports` from their __post_init__."""

    import_dir: str = setting(
        "", help=f"directories below which publishers may import adapters, separated by {os.pathsep!r}"
    )
    import_s3_endpoint: str = setting("", help="URL of object storage to import s3://BUCKET/PREFIX from")
    import_s3_buckets: str = setting(
        "", help="its buckets that publishers may import from, separated by commas; empty: none"
    )
    import_s3_region: str = setting("us-east-1", help="region of that object storage")
    import_s3_credentials_file: Path | None = setting(
        None, help="as --blob-credentials-file, for imports; default: the same variables"
    )
    import_s3_ca_file: Path | None = setting(
        None, help="PEM of the CA that vouches for that object storage; default: those that the system trusts"
    )
    import_hub_endpoint: str = setting(
        "https://huggingface.co",
        help="hub to import hf://REPO@REVISION from; empty: none",
        variable="HF_ENDPOINT",
    )
    import_hub_token: str = setting(
        "", help="token for the hub: publishers may import what it may read", variable="HF_TOKEN"
    )

    import_scratch_bytes: int = setting(
        DEFAULT_MAX_BYTES, help="most bytes that each tenant's imports may hold below --data-dir meanwhile"
    )

    def check_imports(self) -> None:
        """Raises ValueError naming the flag that is wrong."""
        if self.import_scratch_bytes < 1:
            raise ValueError("--import-scratch-bytes: must be above 0")
        for path in self._directories():
            if not path.is_dir():
                raise ValueError(f"--import-dir: {path} is not a directory")
        if self.import_s3_endpoint:
            try:
                self._s3_endpoint()
            except ValueError as error:
                raise ValueError(f"--import-s3-endpoint: {error}") from error
        if self.import_s3_ca_file is not None and not self.import_s3_ca_file.is_file():
            raise ValueError(f"--import-s3-ca-file: {self.import_s3_ca_file} is not a file")
        for bucket in self._buckets():
            if not BUCKET_NAME.fullmatch(bucket):
                raise ValueError(f"--import-s3-buckets: {bucket!r} is no bucket's name")
        if self._buckets() and not self.import_s3_endpoint:
            raise ValueError("--import-s3-buckets: say with --import-s3-endpoint where they are")
        parts = urlsplit(self.import_hub_endpoint)
        if self.import_hub_endpoint and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise ValueError(f"--import-hub-endpoint: {self.import_hub_endpoint!r} is no http(s)://HOST")

    def import_places(self) -> ImportPlaces:
        """What may be imported from. Raises OSError if credentials are missing."""
        s3 = hub = None
        if self.import_s3_endpoint:
            endpoint = self._s3_endpoint()
            try:
                credentials = s3_credentials(self.import_s3_credentials_file, "--import-s3-credentials-file")
            except ValueError as error:
                raise OSError(f"imports: {error}") from error
            s3 = S3(endpoint, credentials, self._buckets())
        if self.import_hub_endpoint:
            hub = Hub(self.import_hub_endpoint, self.import_hub_token)
        return ImportPlaces(self._directories(), s3, hub)

    def _s3_endpoint(self) -> S3Endpoint:
        return parse_endpoint(self.import_s3_endpoint, self.import_s3_region, self.import_s3_ca_file)

    def _directories(self) -> tuple[Path, ...]:
        return tuple(Path(part) for part in self.import_dir.split(os.pathsep) if part)

    def _buckets(self) -> frozenset[str]:
        return frozenset(name for part in self.import_s3_buckets.split(",") if (name := part.strip()))
