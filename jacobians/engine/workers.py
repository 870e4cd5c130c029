"""A few threads that share a list of jobs, and stop together when one of them fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

Job = TypeVar("Job")


def share(work: Callable[[Job, int], None], jobs: Sequence[Job], threads: int) -> None:
    """Call ``work`` with every job and the number of its worker; the calling thread is one of them.

    The first exception, an interrupt included, stops all workers after the job in hand, and is
    raised once they have stopped.
    """
    if threads == 1 or len(jobs) < 2:
        for job in jobs:
            work(job, 0)
        return
    waiting, failures = deque(jobs), deque[BaseException]()

    def take_turns(worker: int) -> None:
        while not failures:
            try:
                job = waiting.popleft()
            except IndexError:  # all done, or being done
                return
            try:
                work(job, worker)
            except BaseException as err:
                failures.append(err)

    workers = min(threads, len(jobs))
    others = [Thread(target=take_turns, args=(k,)) for k in range(1, workers)]
    for thread in others:
        thread.start()
    take_turns(0)
    try:
        for thread in others:
            thread.join()
    except BaseException as err:
        failures.append(err)
        for thread in others:
            thread.join()
    if failures:
        raise failures[0]
