"""A server of one file that misbehaves as it is told to."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """How the server treats one request: another status, or a body that does not end well."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None  # bytes of the body after which the connection is cut
    stall: int | None = None  # bytes of the body after which nothing more comes


@dataclass
class Request:
    """A request that the server has seen, and how many bytes of the file it sent."""

    path: str
    headers: dict[str, str]
    sent: int = 0


@dataclass
class LocalServer:
    """A server of one file, on a port that the system chose."""

    url: str
    content: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    tells_length: bool = True
    chunked: bool = False
    content_type: str = "application/zip"
    faults: list[Fault] = field(default_factory=list)  # one for each request to come
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Listening(ThreadingHTTPServer):
    local: LocalServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listening"

    def do_GET(self) -> None:
        self.close_connection = True
        local = self.server.local
        fault = local.faults.pop(0) if local.faults else Fault()
        request = Request(self.path, dict(self.headers))
        local.requests.append(request)
        if fault.status:
            self._start(fault.status, {**fault.headers, "Content-Length": str(len(fault.body))})
            self.wfile.write(fault.body)
            return
        headers = {"Content-Type": local.content_type}
        if local.etag:
            headers["ETag"] = local.etag
        start = self._asked_start()
        total = len(local.content)
        if start >= total > 0:
            self._start(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        body = local.content[start:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if local.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif local.tells_length:
            headers["Content-Length"] = str(len(body))
        self._start(206 if start else 200, headers)
        last = min((n for n in (fault.cut, fault.stall) if n is not None), default=len(body))
        with contextlib.suppress(ConnectionError):
            if local.chunked:
                self.wfile.write(b"%x\r\n" % len(body))
            request.sent = last  # before the client can have it all and look
            self.wfile.write(body[:last])
            if local.chunked and last == len(body):
                self.wfile.write(b"\r\n0\r\n\r\n")
            if fault.stall is not None:
                self.wfile.flush()
                local.released.wait(20)

    def _asked_start(self) -> int:
        local = self.server.local
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", local.etag) == local.etag
        return int(asked[1]) if asked and same and local.ranges else 0

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@contextlib.contextmanager
def serve() -> Iterator[LocalServer]:
    """Run a server until the block ends; whatever stalls then is let go."""
    with _Listening(("127.0.0.1", 0), Handler) as listening:
        local = LocalServer(f"http://127.0.0.1:{listening.server_port}/DAVIS.zip")
        listening.local = local
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield local
        finally:
            local.released.set()
            listening.shutdown()
            thread.join()
