"""Collections whose items are made when they are asked for.

A corpus may hold more sequences than a process should hold at once: each as an object takes some
kilobytes, its line in the list of a dataset some hundred bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")


class OnDemand(Sequence[Item], Generic[Item]):
    """``count`` items, each made anew by ``make`` from its number, and not kept."""

    def __init__(self, count: int, make: Callable[[int], Item]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, range(self._count))

    @overload
    def __getitem__(self, number: int) -> Item: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Item]: ...
    def __getitem__(self, number: int | slice) -> Item | Sequence[Item]:
        numbers = range(self._count)[number]
        if isinstance(numbers, range):
            return [self._make(one) for one in numbers]
        return self._make(numbers)
