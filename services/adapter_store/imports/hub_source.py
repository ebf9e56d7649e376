"""A model repository of the Hugging Face hub, or of what --import-hub-endpoint is instead, at one commit.

The hub's client says what the repository has; bytes are read here, so that a read can
go on where it broke off.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from services.adapter_store.imports.source import CHUNK_BYTES, SourceFile, no_source, source_unavailable

log = logging.getLogger(__name__)

SCHEME = "hf://"
DEFAULT_REVISION = "main"
TIMEOUT_S = 30.0
MAX_REDIRECTS = 5
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"hf://({_PART}(?:/{_PART})?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,254}}))?")
_REDIRECTS = (301, 302, 303, 307, 308)
_REFUSED = (401, 403, 404, 410)


class HubSource:
    """The files at the top of a repository at `pinned`, a commit's sha."""

    def __init__(
        self, source: str, repo: str, commit: str, files: tuple[SourceFile, ...], hub: "Hub"
    ) -> None:
        self._source = source
        self._repo = repo
        self._hub = hub
        self.pinned = commit
        self.files = files

    @classmethod
    def open(cls, source: str, pinned: str, hub: "Hub") -> Self:
        """Asks the hub what the revision means now, or what is at `pinned`.

        Raises SOURCE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        parsed = _NAME.fullmatch(source)
        if parsed is None or ".." in source:
            raise no_source(source, "give hf://REPO@REVISION, such as hf://acme/support-lora@main")
        repo, revision = parsed[1], pinned or parsed[2] or DEFAULT_REVISION
        info = hub.model_info(source, repo, revision)
        return cls(source, repo, info.sha, tuple(sorted(_files(info), key=lambda file: file.path)), hub)

    def read(self, file: SourceFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        url = f"{self._hub.endpoint}/{self._repo}/resolve/{self.pinned}/{quote(file.path)}"
        return self._hub.read(self._source, url, file, offset)

    def close(self) -> None:
        """See Source."""


class Hub:
    """A hub and our token for it."""

    def __init__(self, endpoint: str, token: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        # Without a token the client would look for one in files of whoever runs the store.
        self._api = HfApi(endpoint=self.endpoint, token=token or False)
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(TIMEOUT_S), retries=False)

    def model_info(self, source: str, repo: str, revision: str) -> Any:
        """What the hub knows of the repository at `revision`. Raises SOURCE_NOT_FOUND, STORE_UNAVAILABLE."""
        try:
            return self._api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        except RevisionNotFoundError as error:
            raise no_source(source, f"the repository has no revision {revision}") from error
        except GatedRepoError as error:
            raise no_source(source, "its owners have to grant access to the store's HF_TOKEN") from error
        except RepositoryNotFoundError as error:
            raise no_source(
                source, "there is no such repository, or the store's HF_TOKEN may not read it"
            ) from error
        except HfHubHTTPError as error:
            log.warning("the hub refused: %s", error)
            raise source_unavailable(source, "the hub answered with an error") from error
        except Exception as error:
            # What the client's transport raises depends on the client's version.
            log.warning("the hub does not answer: %r", error)
            raise source_unavailable(source, "no connection, or no answer in time") from error

    def read(self, source: str, url: str, file: SourceFile, offset: int) -> Iterator[bytes]:
        """The bytes of `file` at `url` from `offset`; see Source."""
        if offset >= file.size_bytes:
            return
        try:
            response = self._get(source, url, offset)
            try:
                if response.status in _REFUSED:
                    raise no_source(source, f"the hub refused {file.path} (HTTP {response.status})")
                if response.status != (206 if offset else 200):
                    raise source_unavailable(source, f"HTTP {response.status} for {file.path}")
                # Not `stream`, which throws a broken chunk's beginning away.
                while chunk := response.read1(CHUNK_BYTES):
                    yield chunk
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            log.warning("the hub does not answer: %r", error)
            raise source_unavailable(source, f"{file.path} broke off") from error

    def _get(self, source: str, url: str, offset: int) -> urllib3.BaseHTTPResponse:
        """Follows redirects itself: the token goes to the hub alone, and no scheme gets weaker."""
        for _ in range(MAX_REDIRECTS):
            headers = {"Accept-Encoding": "identity"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            if self._token and _origin(url) == _origin(self.endpoint):
                headers["Authorization"] = f"Bearer {self._token}"
            response = self._http.request("GET", url, headers=headers, redirect=False, preload_content=False)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url = urljoin(url, response.headers.get("Location", ""))
            if urlsplit(url).scheme not in ("https", urlsplit(self.endpoint).scheme):
                raise no_source(source, "the hub redirects to where the store does not follow")
        raise no_source(source, "the hub redirects without end")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _files(info: Any) -> Iterator[SourceFile]:
    for sibling in info.siblings or ():
        if "/" in sibling.rfilename or sibling.size is None:
            continue
        sha256 = sibling.lfs.sha256 if sibling.lfs is not None else ""
        yield SourceFile(sibling.rfilename, sibling.size, sha256 or sibling.blob_id or info.sha, sha256)
