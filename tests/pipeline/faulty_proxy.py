"""A proxy before an HTTP server that is slow, answers with errors, stalls and cuts connections."""

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What happens to a request: another status, or an answer that ends early or stalls.

    Attributes
    ----------
    status : answered without asking the server; 0: its own answer.
    cut : bytes of the answer's body after which the connection ends.
    stall : bytes of the body after which nothing more comes.
    """

    status: int = 0
    cut: int | None = None
    stall: int | None = None


Fate = Callable[[int, str, str], Fault | None]
"""Of the number of a request (from 0), its method and its path: what happens to it."""


@dataclass
class Proxy:
    """A running proxy; ``fate`` and ``latency`` (seconds before each answer) can be changed."""

    address: tuple[str, int]  # of the server
    url: str = ""
    latency: float = 0.0
    fate: Fate = lambda number, method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path
    faults: int = 0
    released: threading.Event = field(default_factory=threading.Event)


def every(period: int, *faults: Fault) -> Fate:
    """Each ``period``-th request meets one of ``faults``, in turn."""
    turns = itertools.cycle(faults)

    def fate(number: int, method: str, path: str) -> Fault | None:
        return next(turns) if number % period == period - 1 else None

    return fate


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Listening
    upstream: http.client.HTTPConnection | None = None

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        number = len(proxy.requests)
        proxy.requests.append((self.command, self.path))
        fault = proxy.fate(number, self.command, self.path) or Fault()
        proxy.faults += fault != Fault()
        time.sleep(proxy.latency)
        if fault.status:
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer, content = self._ask(body)
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        last = min((n for n in (fault.cut, fault.stall) if n is not None), default=len(content))
        self.wfile.write(content[:last])
        self.wfile.flush()
        if fault.stall is not None:
            proxy.released.wait(60)
        self.close_connection = last < len(content) or fault.stall is not None

    def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """The server's answer, over the connection kept for this client."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(*self.server.proxy.address, timeout=60)
        headers = {n: v for n, v in self.headers.items() if n.lower() != "connection"}
        for kept in (True, False):
            try:
                self.upstream.request(self.command, self.path, body, headers)
                answer = self.upstream.getresponse()
                return answer, answer.read()
            except (ConnectionError, http.client.BadStatusLine):
                self.upstream.close()
                if not kept:
                    raise
        raise AssertionError

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@contextlib.contextmanager
def serve_proxy(host: str, port: int) -> Iterator[Proxy]:
    """Run a proxy before ``host:port`` until the block ends; whatever stalls then is let go."""
    with _Listening(("127.0.0.1", 0), _Handler) as listening:
        proxy = Proxy((host, port), f"http://127.0.0.1:{listening.server_port}")
        listening.proxy = proxy
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.released.set()
            listening.shutdown()
            thread.join()
