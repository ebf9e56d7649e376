"""Settings of where blobs lie: a local directory, or a bucket and how to reach it. Opens nothing."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.adapter_store.blobs.s3_place import S3Endpoint, S3Place, parse_endpoint, parse_s3_url
from services.common.settings import S3Credentials, s3_credentials, setting

# Signatures are good for a week at most.
_MOST_EXPIRY_S = 7 * 24 * 3600


# Without slots, so that it can stand beside another base that has them.
@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """To be inherited beside a store's other settings; `check_blobs` from their __post_init__."""

    blob_url: str = setting(
        "",
        help="file:///DIRECTORY, or s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=NAME; empty: "
        "blobs in the data directory",
    )
    blob_credentials_file: Path | None = setting(
        None,
        help="of object storage, laid out as AWS's; default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "MINIO_ACCESS_KEY and MINIO_SECRET_KEY",
    )
    blob_ca_file: Path | None = setting(None, help="PEM of the CA that vouches for object storage")
    blob_public_endpoint: str = setting(
        "", help="URL at which readers reach object storage, if it is another than the store's own"
    )
    presign_expiry_s: int = setting(
        900, help="how long readers may fetch straight from object storage; 0: they read through the store"
    )
    upload_memory_bytes: int = setting(
        256 << 20, help="memory for uploads on their way to object storage; who comes when it is full waits"
    )

    def check_blobs(self) -> None:
        """Raises ValueError naming the flag that is wrong."""
        if not self.is_in_s3:
            if self.blob_url:
                _directory(self.blob_url)
            return
        try:
            parse_s3_url(self.blob_url, self.blob_ca_file)
        except ValueError as error:
            raise ValueError(f"--blob-url: {error}") from error
        if self.blob_public_endpoint:
            try:
                parse_endpoint(self.blob_public_endpoint)
            except ValueError as error:
                raise ValueError(f"--blob-public-endpoint: {error}") from error
        for flag, path in (
            ("blob-credentials-file", self.blob_credentials_file),
            ("blob-ca-file", self.blob_ca_file),
        ):
            if path is not None and not path.is_file():
                raise ValueError(f"--{flag}: {path} is not a file")
        if not 0 <= self.presign_expiry_s <= _MOST_EXPIRY_S:
            raise ValueError(f"--presign-expiry-s: must be from 0 to {_MOST_EXPIRY_S}")
        if self.upload_memory_bytes < 1:
            raise ValueError("--upload-memory-bytes: must be above 0")

    @property
    def is_in_s3(self) -> bool:
        """Whether blobs lie in object storage."""
        return self.blob_url.startswith("s3:")

    @property
    def s3_place(self) -> S3Place:
        """The bucket and prefix."""
        return parse_s3_url(self.blob_url, self.blob_ca_file)

    @property
    def s3_public_endpoint(self) -> S3Endpoint | None:
        """Where readers reach object storage; None: where the store does."""
        if not self.blob_public_endpoint:
            return None
        return parse_endpoint(self.blob_public_endpoint, self.s3_place.endpoint.region)

    def s3_credentials(self) -> S3Credentials:
        """Raises OSError or ValueError saying what is missing."""
        return s3_credentials(self.blob_credentials_file, "--blob-credentials-file")

    def blob_dir(self, data_dir: Path) -> Path:
        """The directory of blobs that lie on the local disk."""
        return _directory(self.blob_url) if self.blob_url else data_dir / "blobs"


def _directory(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(
            f"--blob-url: {url!r} is not served: give file:///DIRECTORY or s3://BUCKET/PREFIX?endpoint=URL"
        )
    return Path(unquote(parts.path))
