"""Reading ahead: the order stays, the next is read meanwhile, errors come out, the thread ends."""

from __future__ import annotations

import threading
import weakref

import pytest
import torch
from tiny import reading_threads

from vavl.data.dataset import read_ahead
from vavl.errors import StoreError

WAIT_S = 30


class Result:
    """Something that can be watched being freed."""

    def __init__(self, item: int) -> None:
        self.item = item


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_are_those_of_plain_calls_in_order(ahead: int, count: int) -> None:
    with read_ahead(str, range(count), ahead) as results:
        assert list(results) == [str(item) for item in range(count)]
    assert not reading_threads()


def test_the_next_is_read_while_one_is_used() -> None:
    read = [threading.Event() for _ in range(5)]
    with read_ahead(lambda item: read[item].set(), range(5)) as results:
        for index, _ in enumerate(results):
            assert read[min(index + 1, 4)].wait(WAIT_S)
            assert len(reading_threads()) == 1


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_is_read_than_was_asked_for_and_what_was_used_is_freed(ahead: int) -> None:
    taken: list[int] = []
    made: weakref.WeakSet[Result] = weakref.WeakSet()

    def items() -> object:
        for item in range(20):
            taken.append(item)
            yield item

    def read(item: int) -> Result:
        result = Result(item)
        made.add(result)
        return result

    with read_ahead(read, items(), ahead) as results:  # type: ignore[arg-type]
        for used in range(1, 21):
            assert next(results).item == used - 1
            assert len(taken) == min(used + ahead, 20)
            assert len(made) <= ahead


def test_an_error_comes_out_in_the_place_of_its_result() -> None:
    mistake = StoreError("shard-00000: cannot be read")

    def read(item: int) -> int:
        if item == 2:
            raise mistake
        return item

    found: list[int] = []
    with (
        pytest.raises(StoreError, match="shard-00000: cannot be read") as raised,
        read_ahead(read, range(9)) as results,
    ):
        found.extend(results)
    # The same object, so that what it was caused by is there too.
    assert raised.value is mistake
    assert not reading_threads()
    with read_ahead(read, range(9)) as results:
        assert [next(results), next(results)] == [0, 1]  # what was read before is not lost


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_the_thread_ends_when_the_context_is_left(error: type[BaseException]) -> None:
    begun: list[int] = []

    def use_one() -> None:
        with read_ahead(begun.append, range(1000)) as results:
            next(results)
            raise error

    with pytest.raises(error):
        use_one()
    assert not reading_threads()
    assert len(begun) <= 2
    with read_ahead(begun.append, range(1000)) as results:
        next(results)
    assert not reading_threads()


def test_operations_in_the_thread_take_no_threads_of_those_that_compute() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with read_ahead(lambda _: torch.get_num_threads(), range(3)) as results:
            assert list(results) == [1, 1, 1]
            assert torch.get_num_threads() == 2
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [2], "a thread begun later"
    finally:
        torch.set_num_threads(before)
