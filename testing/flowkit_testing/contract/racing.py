"""Contract: many threads at once. Whatever the order, the rules hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from attrs import evolve

from flowkit.records import Created, Delivery, Done, Exactly, Gap, Lease, NewRun
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    claim_ids,
    enqueue,
    grant,
    header_of,
    snapshot_of,
    take,
    tell,
)

A = TypeVar("A")
T = TypeVar("T")
PATIENCE_S = 60.0


def together(call: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
    """Make a call with each argument, all at the same time on threads of their own; the answers in order."""
    barrier = Barrier(len(arguments))

    def start(argument: A) -> T:
        barrier.wait(PATIENCE_S)
        return call(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(start, arguments, timeout=PATIENCE_S))


class Racing(StorageSuite):
    """Exactly one wins (rules D4, E3, E5, X1)."""

    def test_many_threads_on_runs_of_their_own(self, storage: Storage) -> None:
        """No write is lost and none is seen twice."""
        runs = [f"run-{n}" for n in range(6)]

        def work(run_id: str) -> int:
            writer = begin(storage, run_id)
            for n in range(20):
                writer.write(b"%s %d" % (run_id.encode(), n))
            return writer.length

        assert together(work, runs) == [20] * 6
        for run_id in runs:
            assert snapshot_of(storage, run_id).entries == tuple(b"%s %d" % (run_id.encode(), n) for n in range(20))

    def test_two_writers_under_one_lease(self, storage: Storage) -> None:
        """D4: from the same base one is applied, the other one finds a gap."""
        writer = begin(storage)
        for turn in range(10):
            commits = [writer.draft(b"%d" % n) for n in range(2)]
            verdicts = together(lambda commit: storage.commit([commit], now_ms=T0)[0], commits)

            assert sorted(type(verdict).__name__ for verdict in verdicts) == ["Done", "Gap"]
            assert Gap(turn + 1) in verdicts
            writer.length = turn + 1

    def test_one_commit_sent_by_two_threads(self, storage: Storage) -> None:
        """D7: both are told that it is done, and it is applied once."""
        writer = begin(storage)
        commit = writer.draft(b"once")

        verdicts = together(lambda commit: storage.commit([commit], now_ms=T0)[0], [commit] * 4)

        assert verdicts == [Done(1, cancel=False, inbox=0, now_ms=T0)] * 4
        assert snapshot_of(storage).entries == (b"once",)

    def test_one_run_many_claimers(self, storage: Storage) -> None:
        """X1, D4: a run has one owner."""
        for turn in range(5):
            enqueue(storage, f"run-{turn}")
            claims = together(lambda token: claim_ids(storage, token), [f"token-{turn}-{n}" for n in range(4)])

            assert sorted(len(claim) for claim in claims) == [0, 0, 0, 1]

    def test_many_runs_many_claimers(self, storage: Storage) -> None:
        """Every run is granted once, none is left."""
        enqueue(storage, *(f"run-{n}" for n in range(40)))

        def work(name: int) -> list[str]:
            mine: list[str] = []
            while granted := claim_ids(storage, f"token-{name}-{len(mine)}", limit=3):
                mine += granted
            return mine

        claims = together(work, range(4))

        assert sorted(run_id for granted in claims for run_id in granted) == sorted(f"run-{n}" for n in range(40))

    def test_a_zombie_against_its_successor(self, storage: Storage) -> None:
        """D4: once the successor has claimed, nothing of the zombie's is recorded."""
        zombie = begin(storage)

        def haunt() -> int:
            for written in range(200):
                if not isinstance(zombie.try_(zombie.draft(b"zombie"), T0 + LEASE_MS), Done):
                    return written
            return 200

        def succeed() -> int:
            writer = take(storage, now_ms=T0 + LEASE_MS)
            verdict = writer.try_(writer.draft(b"winner"), T0 + LEASE_MS)
            while isinstance(verdict, Gap):
                writer.length = verdict.length
                verdict = writer.try_(writer.draft(b"winner"), T0 + LEASE_MS)
            return writer.length

        written, _ = together(lambda call: call(), [haunt, succeed])

        assert snapshot_of(storage).entries == (b"zombie",) * written + (b"winner",)

    def test_one_id_submitted_by_many(self, storage: Storage) -> None:
        """X3: exactly one creates it."""

        def submit(name: int) -> bool:
            (answer,) = storage.submit([NewRun("run", "task", b"%d" % name, grant=grant(f"t{name}"))], now_ms=T0)
            return isinstance(answer, Created)

        created = together(submit, range(5))

        assert sum(created) == 1
        assert snapshot_of(storage).input == b"%d" % created.index(True)

    def test_one_message_sent_by_many(self, storage: Storage) -> None:
        """E5: exactly one delivers it."""
        enqueue(storage, "run")

        answers = together(lambda message_id: tell(storage, message_id), ["id"] * 5)

        assert sorted(answers) == [Delivery.DELIVERED] + [Delivery.DUPLICATE] * 4
        assert header_of(storage).inbox == 1

    def test_counting_together(self, storage: Storage) -> None:
        """A shared value that many raise by one misses none."""

        def count(times: int) -> None:
            raised = 0
            while raised < times:
                value, revision = storage.get("key") or (b"0", 0)
                if storage.compare_and_set("key", revision, b"%d" % (int(value) + 1)) is not None:
                    raised += 1

        together(count, [10] * 4)

        value = storage.get("key")
        assert value is not None
        assert value[0] == b"40"

    def test_a_takeover_by_many(self, storage: Storage) -> None:
        """R4: one crash is counted once, whoever takes over."""
        zombie = begin(storage)

        def take_over(token: str) -> tuple[Lease, ...]:
            return storage.claim(grant(token), Exactly("run"), 1, now_ms=T0 + LEASE_MS).leases

        claims = together(take_over, [f"token-{n}" for n in range(4)])

        leases = [lease for granted in claims for lease in granted]
        assert [lease.crashes for lease in leases] == [1]
        stolen = evolve(zombie.draft(b"x"), fence=leases[0].fence)
        assert not isinstance(zombie.try_(stolen, T0 + LEASE_MS), Done)
