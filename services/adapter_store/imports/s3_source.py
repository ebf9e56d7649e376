"""Objects right below a prefix of a bucket, at the one endpoint that --import-s3-endpoint names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from services.adapter_store.blobs.s3_bucket import Bucket, ObjectInfo
from services.adapter_store.blobs.s3_errors import ObjectMissingError
from services.adapter_store.blobs.s3_place import S3Endpoint, S3Place
from services.adapter_store.imports.source import CHUNK_BYTES, SourceFile, no_source, source_unavailable
from services.common.errors import ServiceError
from services.common.settings import S3Credentials

SCHEME = "s3://"
# An adapter's prefix has a dozen objects; a bucket's root may have any number.
MAX_OBJECTS = 10_000
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NAME = re.compile(rf"s3://({BUCKET_NAME.pattern})/([^?#]{{1,900}})")
_FORM = "give s3://BUCKET/PREFIX"
_REFUSED = frozenset(
    {"NoSuchBucket", "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)


@dataclass(frozen=True, slots=True)
class S3:
    """An endpoint, who we are to it, and the only buckets of it that may be imported from."""

    endpoint: S3Endpoint
    credentials: S3Credentials = field(repr=False)
    buckets: frozenset[str] = frozenset()


class S3Source:
    """The objects of one prefix."""

    pinned = ""

    def __init__(self, source: str, bucket: Bucket, prefix: str) -> None:
        self._source = source
        self._bucket = bucket
        self._prefix = prefix
        self.files = tuple(self._list())

    @classmethod
    def open(cls, source: str, s3: S3) -> Self:
        """Raises SOURCE_NOT_FOUND, STORE_UNAVAILABLE."""
        parsed = _NAME.fullmatch(source)
        if parsed is None:
            raise no_source(source, _FORM)
        # Not what the credentials reach: whoever may publish would read all of that by our hand.
        if parsed[1] not in s3.buckets:
            raise no_source(
                source,
                "this store imports from no such bucket: its operator names them in --import-s3-buckets",
            )
        place = S3Place(s3.endpoint, parsed[1], "")
        return cls(source, Bucket(place, s3.credentials), parsed[2].strip("/") + "/")

    def read(self, file: SourceFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        key = self._prefix + file.path
        try:
            self._check_unchanged(key, file)
            yield from self._bucket.chunks(key, offset, file.size_bytes - offset, CHUNK_BYTES)
            self._check_unchanged(key, file)
        except ObjectMissingError as error:
            raise self._changed(file) from error
        except ServiceError as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """See Source."""

    def _list(self) -> Iterator[SourceFile]:
        found = 0
        try:
            for info in islice(self._bucket.list(self._prefix, is_deep=False), MAX_OBJECTS):
                found += 1
                if name := info.key[len(self._prefix) :].rstrip("/"):
                    yield SourceFile(name, info.size_bytes, _state(info))
        except ServiceError as error:
            raise self._refusal(error) from error
        except ValueError as error:  # the client knows better than a pattern what no bucket can be called
            raise no_source(self._source, f"it names no bucket ({error}): {_FORM}") from error
        if not found:
            raise no_source(self._source, "there is no object below that prefix")

    def _check_unchanged(self, key: str, file: SourceFile) -> None:
        info = self._bucket.info(key)
        if info is None or _state(info) != file.state:
            raise self._changed(file)

    def _changed(self, file: SourceFile) -> ServiceError:
        return no_source(self._source, f"{file.path} was changed meanwhile: import it again")

    def _refusal(self, error: ServiceError) -> ServiceError:
        code = error.metadata.get("storage_code", "")
        if code in _REFUSED:
            return no_source(self._source, f"there is no such bucket, or it is not for this store ({code})")
        return error if error.field else source_unavailable(self._source, code or "no answer in time")


def _state(info: ObjectInfo) -> str:
    return f"{info.size_bytes}-{info.modify_time.replace(microsecond=0).isoformat()}-{info.tag}"
