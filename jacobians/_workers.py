"""A few threads that share a list of jobs, and stop together when one of them fails.

The threads wait for the next call, since starting one costs as much as a small batch.  There are no
more of them than the largest plan asked for, and a forked process starts its own.

Forking while OpenBLAS multiplies on threads of its own can hang in the child, whoever forks: start
processes with ``multiprocessing.get_context("spawn")`` or ``"forkserver"``, or set
``OPENBLAS_NUM_THREADS=1`` before.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Job = TypeVar("Job")

_waiting: list[tuple[int, ThreadPoolExecutor]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_waiting.clear)


def share(work: Callable[[Job, int], None], jobs: Sequence[Job], threads: int) -> None:
    """Call ``work`` with every job and the number of its worker; the calling thread is worker 0.

    The first exception, an interrupt included, stops all workers after the job in hand, and is
    raised once they have stopped.
    """
    if threads == 1 or len(jobs) < 2:
        for job in jobs:
            work(job, 0)
        return
    left, failures = deque(jobs), deque[BaseException]()

    def take_turns(worker: int) -> None:
        while not failures:
            try:
                job = left.popleft()
            except IndexError:  # all done, or being done
                return
            try:
                work(job, worker)
            except BaseException as err:
                failures.append(err)

    others: list[Future[None]] = []
    try:
        count = min(threads, len(jobs))
        executor = _executor(count - 1)
        for k in range(1, count):
            others.append(executor.submit(take_turns, k))
        take_turns(0)
    except BaseException as err:  # an interrupt, wherever: the others stop, and we wait for them
        failures.append(err)
    while others:
        try:
            # one that waits behind other calls has nothing left to do
            if not others[-1].cancel():
                others[-1].result()
            others.pop()
        except BaseException as err:  # an interrupt while waiting: we wait on
            failures.append(err)
    if failures:
        raise failures[0]


def cut(batch: int, piece: int, threads: int) -> list[slice]:
    """Cut a batch into pieces of one size, none larger than ``piece``, as many for each thread.

    >>> cut(10, 4, 2)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 9, None), slice(9, 12, None)]
    """
    if not batch:
        return []
    rounds = -(-batch // (threads * piece))
    size = -(-batch // (threads * rounds))
    return [slice(start, start + size) for start in range(0, batch, size)]


def _executor(threads: int) -> ThreadPoolExecutor:
    """Return threads that wait for work; more of them if these are too few."""
    from concurrent.futures import ThreadPoolExecutor  # loads logging, so not with the library

    if not _waiting or _waiting[-1][0] < threads:
        _waiting.append((threads, ThreadPoolExecutor(threads, "jacobians")))
        del _waiting[:-1]  # the few from before finish what they are doing, and end
    return _waiting[-1][1]
