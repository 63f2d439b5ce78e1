"""Work that is done ahead in a thread of its own, so that what follows need not wait for it."""

import threading
from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")

# Seconds after which a thread that waits looks whether it is still wanted.
PATIENCE = 0.1


class _End:
    """What a thread puts last: the exception that ended it, or none."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[T], depth: int, name: str) -> Generator[T, None, None]:
    """Yield ``items`` that a thread takes out of their iterator, at most ``depth`` in advance.

    An exception there is raised here, after the items before it. When this generator is closed,
    or fails, the thread ends after the item that it is making, and ``items`` is closed in it.
    """
    queue: Queue[T | _End] = Queue(depth)
    unwanted = threading.Event()

    def put(item: T | _End) -> bool:
        while not unwanted.is_set():
            try:
                queue.put(item, timeout=PATIENCE)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        error = None
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as problem:
            # Whatever it is: it belongs to whoever takes the items.
            error = problem
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
        put(_End(error))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = queue.get(timeout=PATIENCE)
            except Empty:
                # The interpreter takes a signal between two looks.
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        unwanted.set()
        thread.join()
