"""Build workers share the work, and a piece that fails leaves its worker to the others."""

import threading
from typing import cast

import pytest

from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.worker import Worker, WorkerDied


class Counted:
    """A worker that only notes what is done with it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")


def made(count: int) -> tuple[list[Counted], Builders]:
    workers = [Counted() for _ in range(count)]
    return workers, Builders([cast(Worker, worker) for worker in workers])


def test_answers_come_in_the_order_of_the_items() -> None:
    _, builders = made(3)
    assert list(builders.each(lambda worker, item: item * item, range(20))) == [item * item for item in range(20)]


def test_all_workers_work_at_once_and_none_on_two_pieces() -> None:
    workers, builders = made(2)
    both = threading.Barrier(2, timeout=10)
    busy: set[int] = set()

    def work(worker: Worker, item: int) -> int:
        assert id(worker) not in busy
        busy.add(id(worker))
        both.wait()  # ends only when the other worker is in here too
        busy.discard(id(worker))
        both.wait()
        return id(worker)

    assert set(builders.each(work, range(4))) == {id(worker) for worker in workers}


def test_a_piece_that_fails_is_raised_and_leaves_its_worker_free() -> None:
    _, builders = made(1)

    def work(worker: Worker, item: int) -> int:
        if item == 1:
            raise WorkerDied("crashed with status -11")
        return item

    with pytest.raises(WorkerDied, match="status -11"):
        list(builders.each(work, range(3)))
    assert list(builders.each(work, [5])) == [5]


def test_all_are_started_and_stopped() -> None:
    workers, builders = made(2)
    builders.start()
    builders.stop()
    assert [worker.events for worker in workers] == [["start", "stop"]] * 2
