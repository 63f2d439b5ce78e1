"""An S3 server in a process of its own, and a proxy before it that misbehaves as it is told to."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import obstore
import requests
from obstore.store import S3Store

from pipeline.locations import Url
from pipeline.objects import Objects
from pipeline.publication import publish_objects
from tests.pipeline.faulty_proxy import Proxy, serve_proxy


@contextlib.contextmanager
def serve_s3() -> Iterator[tuple[str, int]]:
    """Run moto's server until the block ends; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((host, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "moto's server has not started"
                time.sleep(0.05)
        yield host, port
    finally:
        process.kill()
        process.wait()


@dataclass
class Bucket:
    """A bucket that is empty at first, reached through a proxy.

    Attributes
    ----------
    url : of the bucket, ``s3://…``.
    server : address of the server itself, which no fault of the proxy concerns.
    """

    name: str
    proxy: Proxy
    server: str
    local: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"s3://{self.name}"

    def put(self, key: str, content: bytes) -> None:
        """Write an object past everything that is tested."""
        obstore.put(self._store(), key, content)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """All objects whose key begins with a prefix, by key, read past all that is tested."""
        store = self._store()
        found = [one["path"] for page in obstore.list(store) for one in page]
        keys = [key for key in found if key.startswith(prefix)]
        return {key: bytes(obstore.get(store, key).bytes()) for key in keys}

    def _store(self) -> S3Store:
        return S3Store(
            self.name,
            endpoint=self.server,
            client_options={"allow_http": True},
            access_key_id="key",
            secret_access_key="secret",
        )

    def files(self, prefix: str) -> dict[str, bytes]:
        """The files of the only generation published under a prefix, by name."""
        found = self.objects(f"{prefix}/")
        names = {key.removeprefix(f"{prefix}/").partition("/")[0] for key in found}
        (generation,) = names - {"published.json"}
        start = f"{prefix}/{generation}/"
        return {
            key.removeprefix(start): content
            for key, content in found.items()
            if key.startswith(start)
        }


def environment(bucket: Bucket) -> dict[str, str]:
    """Variables with which a command finds the bucket."""
    return {
        "AWS_ENDPOINT_URL": bucket.proxy.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "MIDFRAME_OBJECTS": str(bucket.local),
    }


@contextlib.contextmanager
def new_bucket(server: tuple[str, int], name: str, local: Path) -> Iterator[Bucket]:
    """Create a bucket and run a proxy before it; ``local`` is where mirrors go."""
    address = f"http://{server[0]}:{server[1]}"
    requests.put(f"{address}/{name}", timeout=30).raise_for_status()
    with serve_proxy(*server) as proxy:
        yield Bucket(name, proxy, address, local)


def publish(bucket: Bucket, directory: Path, key: str, nonce: str = "00000000") -> None:
    """Publish a directory in a bucket."""
    publish_objects(directory, Objects(Url(bucket.name, key)), nonce)
