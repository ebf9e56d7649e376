"""One bucket of an S3 server through the `minio` client: objects, ranges, multipart uploads, signed URLs.

The only module that knows the client. Every call has a timeout and a few retries; a failure is
ObjectMissingError, MultipartLostError, or ServiceError STORE_UNAVAILABLE. Keys are whole; knows no blobs.
"""

import functools
import io
import logging
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.error import InvalidResponseError, MinioException, S3Error

from services.adapter_store.blobs.s3_errors import (
    LOST,
    MISSING,
    MultipartLostError,
    ObjectMissingError,
    storage_unavailable,
)
from services.adapter_store.blobs.s3_place import S3Endpoint, S3Place
from services.adapter_store.domain.staged_file import StagedPart
from services.common.settings import S3Credentials

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
# A server may put gigabytes together before it answers.
COMPLETE_TIMEOUT_S = 300.0
_NUM_RETRIES = 2
_MAX_CONNECTIONS = 64
_LEAST_PART_BYTES = 5 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`tag` changes when the object does; it means nothing else."""

    key: str
    size_bytes: int
    modify_time: datetime
    tag: str


class Bucket:
    """The bucket of `place`; methods may be called from any thread."""

    def __init__(self, place: S3Place, credentials: S3Credentials) -> None:
        self._name = place.bucket
        self._client = _client(place.endpoint, credentials, READ_TIMEOUT_S)
        self._patient_client = _client(place.endpoint, credentials, COMPLETE_TIMEOUT_S)
        self._credentials = credentials
        self._signer = self._client

    def sign_for(self, endpoint: S3Endpoint) -> None:
        """From now on signed URLs name this endpoint."""
        self._signer = _client(endpoint, self._credentials, READ_TIMEOUT_S)

    def check(self) -> None:
        """Raises OSError saying what is wrong if the bucket cannot be used with these credentials."""
        try:
            found = self._client.bucket_exists(self._name)
        except S3Error as error:
            raise OSError(
                f"--blob-url: object storage refuses the bucket {self._name!r} ({error.code}): check the "
                "credentials and what they may do"
            ) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise OSError(f"--blob-url: object storage does not answer: {_brief(error)}") from error
        if not found:
            raise OSError(f"--blob-url: there is no bucket {self._name!r}: make it first")

    def put(self, key: str, data: bytes) -> None:
        """Stores a whole object; durable when it returns."""
        # A part size that keeps the client from making a multipart upload of it.
        part_bytes = max(len(data), _LEAST_PART_BYTES)
        self._call(
            lambda: self._client.put_object(
                self._name, key, io.BytesIO(data), len(data), part_size=part_bytes
            )
        )

    def chunks(self, key: str, offset: int, length: int, chunk_bytes: int) -> Generator[bytes, None, None]:
        """`length` bytes from `offset`, fewer if the object ends. Raises ObjectMissingError at the first."""
        if not length:
            return
        response = self._call(lambda: self._client.get_object(self._name, key, offset, length))
        is_read = False
        try:
            while length:
                wanted_bytes = min(chunk_bytes, length)
                chunk = self._call(functools.partial(response.read, wanted_bytes))
                if not chunk:
                    return
                length -= len(chunk)
                yield chunk
            is_read = not length
        finally:
            if not is_read:
                # What is left unread must not be taken for the next answer on this connection.
                response.close()
            response.release_conn()

    def info(self, key: str) -> ObjectInfo | None:
        """What is known of an object without reading it; None if there is none."""
        try:
            found = self._call(lambda: self._client.stat_object(self._name, key))
        except ObjectMissingError:
            return None
        return ObjectInfo(key, found.size or 0, found.last_modified or datetime.now(UTC), found.etag or "")

    def list(self, prefix: str, *, is_deep: bool = True) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, by key in ascending order, a page in memory.

        Unless `is_deep`, what has another slash after the prefix is listed as one, up to that slash.
        """
        pages = self._client.list_objects(self._name, prefix=prefix, recursive=is_deep)
        while (found := self._call(lambda: next(pages, None))) is not None:
            if found.object_name is not None:
                time = found.last_modified or datetime.now(UTC)
                yield ObjectInfo(found.object_name, found.size or 0, time, found.etag or "")

    def remove(self, key: str) -> None:
        """Removes an object; no error if there is none."""
        self._call(lambda: self._client.remove_object(self._name, key))

    def read_url(self, key: str, expiry_s: int) -> str:
        """Where anybody can GET the object for `expiry_s` from now. Asks nobody."""
        return self._signer.presigned_get_object(self._name, key, timedelta(seconds=expiry_s))

    def start_multipart(self, key: str) -> str:
        """Begins a multipart upload; returns its id."""
        return self._call(lambda: self._client._create_multipart_upload(self._name, key, {}))

    def put_part(self, key: str, multipart_id: str, number: int, data: bytes) -> str:
        """Sends part `number`, counted from 1; returns its ETag. Raises MultipartLostError."""
        return self._call(
            lambda: self._client._upload_part(self._name, key, data, None, multipart_id, number)
        )

    def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[StagedPart]) -> None:
        """Makes the object of these parts, whole and durable at once. Raises MultipartLostError."""
        listed = [Part(part.number, part.etag) for part in parts]
        self._call(
            lambda: self._patient_client._complete_multipart_upload(self._name, key, multipart_id, listed)
        )

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drops a multipart upload and its parts; no error if it is not there."""
        try:
            self._call(lambda: self._client._abort_multipart_upload(self._name, key, multipart_id))
        except MultipartLostError:
            return

    def multiparts(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Key, id and begin of each open multipart upload below `prefix`, a page in memory."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": "1000"}
        while True:
            try:
                page = self._call(
                    lambda: self._client._execute("GET", self._name, query_params=dict(query)).data
                )
            except MultipartLostError:  # how some servers say that there are none
                return
            root = ElementTree.fromstring(page)
            for element in root.iterfind("{*}Upload"):
                begun = datetime.fromisoformat(_text(element, "Initiated"))
                yield _text(element, "Key"), _text(element, "UploadId"), begun
            if _text(root, "IsTruncated") != "true":
                return
            query["key-marker"] = _text(root, "NextKeyMarker")
            query["upload-id-marker"] = _text(root, "NextUploadIdMarker")

    def _call(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except (S3Error, InvalidResponseError) as error:
            code = _code(error)
            if code in MISSING:
                raise ObjectMissingError from error
            if code in LOST:
                raise MultipartLostError(code) from error
            log.warning("object storage refused a call: %s", _brief(error))
            raise storage_unavailable(code, code) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            log.warning("object storage does not answer: %s", _brief(error))
            raise storage_unavailable("no connection, or no answer in time") from error


def _client(endpoint: S3Endpoint, credentials: S3Credentials, read_timeout_s: float) -> Minio:
    http = urllib3.PoolManager(
        maxsize=_MAX_CONNECTIONS,
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
        cert_reqs="CERT_REQUIRED",
        ca_certs=None if endpoint.ca_file is None else str(endpoint.ca_file),
        retries=urllib3.Retry(
            total=_NUM_RETRIES,
            backoff_factor=0.2,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
        ),
    )
    return Minio(
        endpoint.host,
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.session_token or None,
        secure=endpoint.secure,
        region=endpoint.region,
        http_client=http,
    )


def _code(error: S3Error | InvalidResponseError) -> str:
    if isinstance(error, S3Error):
        return error.code or "no code"
    # Some servers send errors with a content type that the client does not take for XML.
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else "no code"


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
