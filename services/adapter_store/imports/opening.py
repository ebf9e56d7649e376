"""Which module reads a source, by its scheme, and what the store's settings let it read."""

from dataclasses import dataclass
from pathlib import Path

from services.adapter_store.imports import hub_source, s3_source
from services.adapter_store.imports.hub_source import Hub, HubSource
from services.adapter_store.imports.local_source import LocalSource
from services.adapter_store.imports.s3_source import S3, S3Source
from services.adapter_store.imports.source import Source, no_source


@dataclass(frozen=True, slots=True)
class ImportPlaces:
    """What may be imported from; without `s3` or `hub` nothing is by that scheme."""

    directories: tuple[Path, ...] = ()
    s3: S3 | None = None
    hub: Hub | None = None

    def open(self, source: str, pinned: str) -> Source:
        """The source of that name, at `pinned` if an earlier call noted it. Raises SOURCE_NOT_FOUND."""
        if source.startswith(hub_source.SCHEME):
            if self.hub is None:
                raise no_source(source, "this store reads no hub: start it with --import-hub-endpoint")
            return HubSource.open(source, pinned, self.hub)
        if source.startswith(s3_source.SCHEME):
            if self.s3 is None:
                raise no_source(
                    source,
                    "this store reads no S3: start it with --import-s3-endpoint and --import-s3-buckets",
                )
            return S3Source.open(source, self.s3)
        if "://" in source or source.startswith("file:"):
            raise no_source(
                source, "its scheme is not served: give a directory, s3://BUCKET/PREFIX or hf://REPO@REVISION"
            )
        return LocalSource.open(source, self.directories)
