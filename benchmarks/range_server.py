"""A server of files by range, as S3 answers readers, in a process of its own.

It keeps nothing in memory and answers after a set time, so that what is measured is the reader:
moto, with which the tests run, takes 10 ms of a core for a request.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    root: Path
    latency: float

    def do_GET(self) -> None:
        time.sleep(self.latency)
        path = self.root / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self._answer(404, 0)
            return
        size = path.stat().st_size
        first, stop, status = 0, size, 200
        if asked := self.headers.get("Range"):
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first = int(low) if low else size - int(high)
            stop, status = min(int(high) + 1, size) if low and high else size, 206
        self._answer(status, stop - first, f"bytes {first}-{stop - 1}/{size}", path)
        if self.command == "GET":
            with open(path, "rb") as file:
                self.wfile.flush()
                while first < stop:
                    first += os.sendfile(
                        self.connection.fileno(), file.fileno(), first, stop - first
                    )

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        path = self.root / unquote(urlsplit(self.path).path).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.latency)
        self._answer(200, 0)

    def handle_expect_100(self) -> bool:
        asked = super().handle_expect_100()
        self.wfile.flush()
        return asked

    def _answer(
        self, status: int, length: int, content_range: str = "", path: Path | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns if path else 1:x}"')
        self.send_header("Last-Modified", self.date_time_string())
        if status == 206:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def serve(root: Path, latency: float) -> Iterator[str]:
    """Serve ``root``, whose folders are buckets, each answer after ``latency`` seconds; its URL."""
    command = [sys.executable, __file__, str(root), str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    Handler.root, Handler.latency = Path(sys.argv[1]), float(sys.argv[2])
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
