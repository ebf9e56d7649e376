"""A small HTTP server of one file's bytes, which may be anything but right."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpFile:
    """Answers GET with `status` and `body`; after `hang_after` bytes it says nothing more."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = 200
        self.hang_after: int | None = None
        self.num_gets = 0
        self.hanging = threading.Event()
        self.released = threading.Event()
        self.url = ""


@contextlib.contextmanager
def serve(body: bytes) -> Iterator[HttpFile]:
    """The file on a free loopback port."""
    file = HttpFile(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file.num_gets += 1
            self.send_response(file.status)
            self.end_headers()
            if file.hang_after is None:
                self.wfile.write(file.body)
                return
            self.wfile.write(file.body[: file.hang_after])
            self.wfile.flush()
            file.hanging.set()
            file.released.wait(30)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients leave in the middle: that is what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    file.url = f"http://127.0.0.1:{server.server_port}/weights?signature=x"
    try:
        yield file
    finally:
        file.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
