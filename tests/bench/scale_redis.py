"""What flowkit costs a Redis server, in processor time and memory; the page "What Redis carries" computes with it.

    nox -s scale_redis

The processor time is the server's own (`INFO cpu`), so clients that share its machine do not falsify it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count, islice

from flowkit.records import AnyOf, Commit, Created, Finish, Grant, Lease, Limit, NewRun, RunStatus
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.servers import Server

ENTRY = b"x" * 300
STEPS = 10
RUNS = 400
HOUR_MS = 3_600_000
ANY = AnyOf(("task",))


def main() -> int:
    """Measure, and print a table."""
    rows: list[tuple[str, float, str]] = []
    with Server(appendonly="yes", appendfsync="everysec") as server:
        meter = Meter(server)
        storage = redis_storage(server.url)
        storage.open()
        leases = _born(storage, 64)
        rows += _steps(storage, leases, meter)
        rows += _runs(storage, meter)
        rows += _finished(storage, meter)
        storage.close()
        rows += _limits(server, meter)
    for name, value, unit in rows:
        sys.stdout.write(f"{name:<48} {value:>12,.1f} {unit}\n")
    return 0


class Meter:
    """What a server has used so far."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def cpu_us(self) -> float:
        """Processor time, user and system, of its main thread."""
        info = self._info("cpu")
        return 1e6 * (float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"]))

    def memory(self) -> int:
        """Bytes of data."""
        return int(self._info("memory")["used_memory"])

    def cost(self, times: int, do: Callable[[int], object]) -> float:
        """Processor µs for each time."""
        before = self.cpu_us()
        for number in range(times):
            do(number)
        return (self.cpu_us() - before) / times

    def _info(self, section: str) -> dict[str, str]:
        lines = self._server.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def _born(storage: RedisStorage, count: int) -> list[Lease]:
    runs = [NewRun(f"born-{n}", "task", ENTRY, grant=Grant("worker", f"born-{n}", HOUR_MS)) for n in range(count)]
    leases = [answer.lease for answer in storage.submit(runs) if isinstance(answer, Created)]
    return [lease for lease in leases if lease is not None]


def _commit(lease: Lease, base: int, *, finish: bool = False) -> Commit:
    entries = () if finish else (ENTRY,)
    name = f"{lease.run_id}:{base}:{finish}"
    if finish:
        return Commit(
            lease.run_id, lease.owner, lease.fence, name, base, entries, then=Finish(RunStatus.SUCCEEDED, ENTRY)
        )
    return Commit(lease.run_id, lease.owner, lease.fence, name, base, entries)


def _steps(storage: RedisStorage, leases: list[Lease], meter: Meter) -> list[tuple[str, float, str]]:
    storage.commit([_commit(leases[0], 0)])  # the script is known from here on
    alone = meter.cost(3000, lambda n: storage.commit([_commit(leases[0], n + 1)]))
    batch = leases[1:33]
    together = meter.cost(300, lambda n: storage.commit([_commit(lease, n) for lease in batch])) / len(batch)
    return [("a step of 300 bytes, alone", alone, "us"), ("a step of 300 bytes, 32 in a batch", together, "us")]


def _runs(storage: RedisStorage, meter: Meter) -> list[tuple[str, float, str]]:
    before = meter.memory()
    many = 100_000

    def submit(number: int) -> None:
        storage.submit([NewRun(f"{number}-{n}", "task", ENTRY) for n in range(100)])

    submitted = meter.cost(many // 100, submit) / 100
    queued = (meter.memory() - before) / many
    claim = meter.cost(500, lambda n: storage.claim(Grant("worker", f"one-{n}", HOUR_MS), ANY, 1))
    idle = meter.cost(500, lambda n: storage.claim(Grant("worker", f"idle-{n}", HOUR_MS), AnyOf(("none",)), 1))
    return [
        ("a run triggered, 100 at a time", submitted, "us"),
        ("a queued run with an input of 300 bytes", queued, "bytes"),
        ("a claim of one of 100,000", claim, "us"),
        ("a claim that finds nothing", idle, "us"),
    ]


def _finished(storage: RedisStorage, meter: Meter) -> list[tuple[str, float, str]]:
    runs = 500
    before, cpu = meter.memory(), meter.cpu_us()
    for number in range(runs):
        storage.submit([NewRun(f"whole-{number}", "other", ENTRY)])
        (lease,) = storage.claim(Grant("worker", f"whole-{number}", HOUR_MS), AnyOf(("other",)), 1).leases
        for base in range(STEPS):
            storage.commit([_commit(lease, base)])
        storage.commit([_commit(lease, STEPS, finish=True)])
    return [
        (f"a whole run of {STEPS} steps, from trigger to end", (meter.cpu_us() - cpu) / runs, "us"),
        (f"a finished run of {STEPS} steps of 300 bytes", (meter.memory() - before) / runs, "bytes"),
    ]


def _limits(server: Server, meter: Meter) -> list[tuple[str, float, str]]:
    """Runs of one step whose places other shards count, all of them here, so that all of their cost is."""
    storage = redis_storage(f"{server.url}?namespace=sharded&shards=8")
    storage.open()
    shards = storage.opened.layout
    plain: list[float] = []
    limited: list[float] = []
    for turn in range(4):
        ids = (f"{turn}-{n}" for n in count())
        runs = (NewRun(run_id, f"task-{turn % 2}", ENTRY, limit=Limit(1000) if turn % 2 else None) for run_id in ids)
        far = islice((run for run in runs if run.limit is None or shards.home(run) is not None), RUNS)
        spent = meter.cost(1, lambda _, far=far: _pass(storage, list(far)))  # type: ignore[misc]  # a default binds it
        (limited if turn % 2 else plain).append(spent / RUNS)
    storage.close()
    return [
        ("a run of one step in 8 shards", min(plain), "us"),
        ("the same under a limit that another shard counts", min(limited), "us"),
    ]


def _pass(storage: RedisStorage, runs: list[NewRun]) -> None:
    storage.submit(runs)
    done = 0
    while done < len(runs):
        grant = Grant("worker", f"{runs[0].run_id}-{done}", HOUR_MS)
        leases = storage.claim(grant, AnyOf((runs[0].task,)), 10).leases
        for lease in leases:
            storage.commit([_commit(lease, 0)])
            storage.commit([_commit(lease, 1, finish=True)])
        done += len(leases)


if __name__ == "__main__":
    sys.exit(main())
