"""Limits on a Cluster: they hold over all shards, workers and nodes, whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from flowkit import Concurrency, Flow, gather, task
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.clusters import until
from flowkit_testing.redis_audit import audit
from tests.redis import limited_child


@pytest.fixture
def url(cluster_url: str) -> str:
    """All of this is about a Cluster."""
    return cluster_url


class Crew:
    """Workers in processes of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self.folder = folder
        self.workers: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        """One more; returns when it works."""
        command = [sys.executable, limited_child.__file__, self._url, str(self.folder)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def marks(self) -> list[list[str]]:
        """What has begun and ended: what, limit, run, process, time."""
        file = self.folder / "marks"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def end(self) -> None:
        """Leave none behind."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def crew(url: str, tmp_path: Path) -> Iterator[Crew]:
    """Workers that are gone after the test."""
    crew = Crew(url, tmp_path)
    yield crew
    crew.end()


def most_at_a_time(crew: Crew, died_ns: dict[int, int]) -> dict[str, int]:
    """For each limit, how many of its steps were under way at one time, in whichever processes."""
    changes: dict[str, list[tuple[int, int]]] = {}
    under_way: dict[tuple[int, str], str] = {}
    for what, limit, run, process, at_ns in crew.marks():
        changes.setdefault(limit, []).append((int(at_ns), 1 if what == "begin" else -1))
        if what == "begin":
            under_way[int(process), run] = limit
        else:
            del under_way[int(process), run]
    for (pid, _), limit in under_way.items():
        changes[limit].append((died_ns[pid], -1))
    return {limit: max(accumulate(change for _, change in sorted(its))) for limit, its in changes.items()}


def test_limits_hold_over_workers_and_shards(crew: Crew, url: str) -> None:
    """By task, by key and by queue, under load of two workers of which one is killed while it holds places."""
    plain, keyed, closed = limited_child.task_limit, limited_child.key_limit, crew.folder / "closed"
    closed.touch()
    with Flow(url, worker=False) as flow:
        handles = [flow.start(plain, f"t{n}", "default") for n in range(24)]
        handles += [flow.start(keyed, f"k{n}", f"customer-{n % 3}") for n in range(24)]
        handles += [flow.start(plain.options(queue="other"), f"q{n}", "other") for n in range(12)]
        crew.start()
        crew.start()
        until(lambda: len(crew.marks()) == 3 * limited_child.PLACES)
        victim = max(crew.workers, key=lambda worker: sum(int(mark[3]) == worker.pid for mark in crew.marks()))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        died = {victim.pid: limited_child.now_ns()}
        crew.start()
        until(lambda: len(crew.marks()) > 3 * limited_child.PLACES)  # its places are free when its leases end
        closed.unlink()
        assert [handle.wait_for_completion(timeout=60).ok for handle in handles] == [True] * len(handles)

        most = most_at_a_time(crew, died)
        assert most.keys() == {"task:default", "task:other", *(f"key:customer-{n}" for n in range(3))}
        assert most["task:default"] == most["task:other"] == limited_child.PLACES  # reached, and never exceeded
        assert all(most[f"key:customer-{n}"] == 1 for n in range(3))
        storage = redis_storage(url)
        storage.open()
        until(lambda: audit(storage) == [])
        storage.close()


@task(id="limits-inner", concurrency=Concurrency(1, key=lambda number: number % 3))
def inner(number: int) -> int:
    """One at a time of each kind."""
    return limited_child.double(number)


@task(id="limits-outer", concurrency=1)
def outer(number: int) -> int:
    """One at a time, with children in its own place and children side by side."""
    return inner(number) + sum(gather(*(inner.bind(number + each) for each in range(3))))


def test_limited_runs_without_a_worker(url: str) -> None:
    """X1: `run` takes and leaves places by itself, and no parent waits for its own place."""
    with Flow(url, worker=False) as flow:
        assert [flow.run(outer, number) for number in range(4)] == [8 * number + 6 for number in range(4)]
    with Flow(url, worker=True, concurrency=4) as flow:
        handles = [flow.start(outer, number) for number in range(6)]
        assert [handle.result(timeout=60) for handle in handles] == [8 * number + 6 for number in range(6)]
        storage = flow.engine.storage.inner
        assert isinstance(storage, RedisStorage)
        until(lambda: audit(storage) == [])
