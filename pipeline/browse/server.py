"""``browse``: open the directories, serve them to this machine, and open a browser."""

import contextlib
import errno
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from pipeline.browse.app import build_app
from pipeline.browse.site import Site
from pipeline.browse.what_if import prepare
from pipeline.errors import MidframeError
from pipeline.progress import notice

PORT = 8750


def browse(paths: Sequence[Path], port: int = PORT, open_browser: bool = True) -> None:
    """Serve directories on the loopback interface until interrupted.

    Parameters
    ----------
    paths : patch and evaluation directories; also frames and motion directories (see `Site`).
    port : 0 for any free one. The address is printed on standard output.
    open_browser : whether to show the page in the user's browser.

    Raises
    ------
    MidframeError
        if a directory cannot be opened, or the port is taken.
    """
    with _listen(port) as listener:
        # Before the address is known, nobody waits for an answer.
        prepare()
        app = build_app(Site(paths))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        print(address, flush=True)
        notice("Ctrl-C ends it")
        if open_browser:
            webbrowser.open(address)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan="off")
        )
        # Ctrl-C is how it is meant to end.
        with contextlib.suppress(KeyboardInterrupt):
            server.run([listener])


def _listen(port: int) -> socket.socket:
    # The protocol is named, because asyncio sends small answers at once (TCP_NODELAY) only then;
    # without, each request on a kept connection takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise MidframeError(
                f"port {port} is in use; choose another with --port, or any free one with --port 0"
            ) from None
        raise MidframeError(f"port {port}: cannot be used ({error})") from None
    return listener
