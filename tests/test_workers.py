"""Threads that share jobs: all at work at once, each its own number, and none left behind."""

import os
import threading
import time
import warnings

import pytest

from jacobians import _workers
from jacobians._workers import cut, share

PATIENCE = 20  # seconds, where a law that holds waits for none


@pytest.mark.parametrize(("jobs", "threads"), [(2, 2), (3, 3), (2, 5), (3, 7)])
def test_as_many_jobs_are_worked_on_at_once_as_there_are_threads(jobs, threads):
    """The calling thread is worker 0, and there are no more of them than jobs."""
    together, workers = threading.Barrier(jobs), {}

    def work(job, worker):
        together.wait(PATIENCE)
        workers[worker] = threading.current_thread()

    share(work, range(jobs), threads)
    assert sorted(workers) == list(range(jobs))
    assert workers[0] is threading.current_thread()
    assert len(set(workers.values())) == jobs


@pytest.mark.parametrize(("jobs", "threads"), [(5, 1), (1, 4), (0, 3), (0, 1)])
def test_one_thread_or_one_job_stays_with_the_caller(jobs, threads, monkeypatch):
    """And starts none."""
    monkeypatch.setattr(_workers, "_waiting", [])
    done = []
    share(lambda *call: done.append((*call, threading.current_thread())), range(jobs), threads)
    assert done == [(job, 0, threading.current_thread()) for job in range(jobs)]
    assert not _workers._waiting


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_a_call_ends_when_its_last_job_is_done(threads):
    """Also one that another thread is still at when the caller has nothing left to do."""
    begun, done = threading.Barrier(threads), []

    def work(job, worker):
        begun.wait(PATIENCE)
        if worker:
            time.sleep(0.05)
        done.append(job)

    share(work, range(threads), threads)
    assert sorted(done) == list(range(threads))


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_the_failure_of_any_worker_is_raised_once_all_have_stopped(fails):
    begun, done = threading.Barrier(3), []

    def work(job, worker):
        if job < 3:
            begun.wait(PATIENCE)
        if job < 3 and worker == fails:
            raise ZeroDivisionError(worker)
        time.sleep(0.02)
        done.append(job)

    with pytest.raises(ZeroDivisionError, match=str(fails)):
        share(work, range(100), 3)
    assert 2 <= len(done) <= 6  # the two others end the job in hand, and perhaps one that began
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count


def test_an_exception_of_the_caller_is_raised_once_the_others_have_stopped(monkeypatch):
    """Where no thread can be started, and of an interrupt that comes while it waits for them."""
    done, waits = [], []

    class Future:
        def cancel(self):
            return False

        def result(self):
            waits.append(len(done))
            if len(waits) == 1:
                raise KeyboardInterrupt

    class Executor:
        def submit(self, *_):
            if refuses:
                raise RuntimeError("can't start new thread")
            return Future()

    monkeypatch.setattr(_workers, "_executor", lambda threads: Executor())
    refuses = True
    with pytest.raises(RuntimeError, match="can't start new thread"):
        share(lambda job, worker: done.append(job), range(4), 2)
    assert not done
    refuses = False
    with pytest.raises(KeyboardInterrupt):
        share(lambda job, worker: done.append(job), range(4), 2)
    assert done == [0, 1, 2, 3]
    assert waits == [4, 4]  # again, until the other has stopped


def test_threads_wait_for_the_next_call_and_the_largest_one_decides_how_many(monkeypatch):
    monkeypatch.setattr(_workers, "_waiting", [])
    held = []
    for threads, waiting in ((2, 1), (2, 1), (4, 3), (3, 3), (2, 1 + 2)):
        together = threading.Barrier(threads)
        share(lambda job, worker, all_=together: all_.wait(PATIENCE), range(threads), threads)
        assert len(_workers._waiting) == 1
        count, executor = _workers._waiting[0]
        assert count == waiting
        held.append(executor)
    assert held[0] is held[1]
    assert held[1] is not held[2]
    assert held[2] is held[3] is held[4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_forked_process_starts_threads_of_its_own():
    """Those of its parent are none of its."""
    both_at_once(PATIENCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads: Python's, and JAX's where it is
        child = os.fork()
    if child == 0:
        status = 1
        try:
            both_at_once(5)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def both_at_once(seconds):
    together = threading.Barrier(2)
    share(lambda job, worker: together.wait(seconds), range(2), 2)


def test_a_batch_is_cut_into_pieces_of_one_size_as_many_for_each_thread():
    for batch in range(40):
        for piece in range(1, 9):
            for threads in (1, 2, 3):
                pieces = cut(batch, piece, threads)
                points = [k for part in pieces for k in range(*part.indices(batch))]
                assert points == list(range(batch))
                sizes = {part.stop - part.start for part in pieces}
                assert len(sizes) == (batch > 0)
                assert max(sizes, default=0) <= piece
                rounds = -(-batch // (threads * piece))  # the fewest that do
                assert len(pieces) <= threads * rounds
                least = -(-batch // (threads * rounds)) if batch else 0
                assert sizes <= {least}  # no piece larger than it must be
