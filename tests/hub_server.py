"""A small server that speaks the hub's protocol: repositories, commits, a token, large files elsewhere."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secret"


@dataclass
class HubServer:
    """Repositories by name; each revision name means a commit, each commit has files.

    `requests` are (path, Authorization, Range) as they came. `drop_after` cuts the next large file's answer
    off after so many bytes. `redirect_to` is where large files are said to lie, instead of this server's own.
    """

    url: str = ""
    revisions: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    lies: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    drop_after: int | None = None
    redirect_to: str = ""

    def commit(self, repo: str, files: Mapping[str, bytes], revision: str = "main") -> str:
        """A new commit, which `revision` means from now on; its sha."""
        sha = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        self.files[repo, sha] = dict(files)
        self.revisions[repo, revision] = self.revisions[repo, sha] = sha
        return sha


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A hub on a free loopback port."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization, span = self.headers.get("Authorization", ""), self.headers.get("Range", "")
            hub.requests.append((self.path, authorization, span))
            if found := re.fullmatch(r"/cdn/(.+)/([0-9a-f]{40})/(.+)", self.path):
                self._bytes(hub.files[found[1], found[2]][found[3]], span)
            elif found := re.fullmatch(r"/api/models/(.+?)/revision/(.+?)(\?.*)?", self.path):
                self._info(found[1], found[2].replace("%2F", "/"), authorization)
            elif found := re.fullmatch(r"/(.+)/resolve/([0-9a-f]{40})/(.+)", self.path):
                self._resolve(found[1], found[2], found[3], authorization, span)
            else:
                self._answer(404, b"")

        def _allowed(self, repo: str, authorization: str) -> bool:
            return repo not in hub.private or authorization == f"Bearer {TOKEN}"

        def _info(self, repo: str, revision: str, authorization: str) -> None:
            if repo not in {name for name, _ in hub.revisions} or not self._allowed(repo, authorization):
                self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})
                return
            sha = hub.revisions.get((repo, revision))
            if sha is None:
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no"})
                return
            siblings = [self._sibling(path, data) for path, data in hub.files[repo, sha].items()]
            info = {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings, "private": False}
            self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

        def _sibling(self, path: str, data: bytes) -> dict[str, object]:
            sibling: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": "0" * 40}
            if path.endswith(".safetensors"):
                digest = hub.lies.get(path) or hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"size": len(data), "sha256": digest, "pointerSize": 134}
            return sibling

        def _resolve(self, repo: str, sha: str, path: str, authorization: str, span: str) -> None:
            if not self._allowed(repo, authorization):
                self._answer(401, b"")
                return
            data = hub.files[repo, sha][path]
            if not path.endswith(".safetensors"):
                self._bytes(data, span)
                return
            to = hub.redirect_to or f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{repo}/{sha}/{path}"
            self._answer(302, b"", {"Location": to, "X-Repo-Commit": sha, "X-Linked-Size": str(len(data))})

        def _bytes(self, data: bytes, span: str) -> None:
            offset = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            body = data[offset:]
            if hub.drop_after is not None and len(body) > hub.drop_after:
                cut, hub.drop_after = hub.drop_after, None
                self.send_response(206 if span else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:cut])
                self.close_connection = True
                return
            self._answer(206 if span else 200, body)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
