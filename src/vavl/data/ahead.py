"""What is to come is read by a thread, while what is there is computed with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Read = TypeVar("Read")


@contextmanager
def read_ahead(
    read: Callable[[Item], Read], items: Iterable[Item], ahead: int = 1
) -> Iterator[Iterator[Read]]:
    """Calls a function on items in a thread, in their order, some calls ahead of their use.

    Files are read, copied and converted without Python's lock, beside the computation. The function
    must leave torch's global random numbers alone: which of two threads draws first is chance.

    Args:
        read: What is called.
        items: On what; taken from in the calling thread.
        ahead: Results at most that are held ready, or are being made.

    Yields:
        The results, once. Where a call has failed, its error is raised in the place of its result.
        The thread ends with the context, however that is left, after the call that it is in.

    Example:
        >>> with read_ahead(str.upper, "abc") as results:
        ...     list(results)
        ['A', 'B', 'C']
    """
    threads = torch.get_num_threads()
    # Operations of torch in this thread get no threads of their own beside those that compute.
    reader = ThreadPoolExecutor(1, "read-ahead", torch.set_num_threads, (1,))

    def results() -> Iterator[Read]:
        waiting: deque[Future[Read]] = deque()
        for item in items:
            waiting.append(reader.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        reader.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of threads yet to come; each has a number of its own
