"""The build workers of one oracle: warm compilers, handed one piece of work at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tvm_prune.oracle.worker import Worker

__all__ = ["Builders"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Builders:
    """Workers of the role "build"; work is spread over all of them, each does one piece at a time."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)

    def start(self) -> None:
        """Start those that do not run, without waiting for them."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End all of them."""
        for worker in self._workers:
            worker.stop()

    def each(self, work: Callable[[Worker, Item], Answer], items: Sequence[Item]) -> Iterator[Answer]:
        """Yield what `work` makes of each item, in order, with as many at once as there are workers."""
        free = list(self._workers)

        def one(item: Item) -> Answer:
            worker = free.pop()
            try:
                return work(worker, item)
            finally:
                free.append(worker)

        with ThreadPoolExecutor(len(self._workers)) as pool:
            yield from pool.map(one, items)
