"""The memory storage keeps the contract, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit.errors import ConfigurationError, StorageError
from flowkit.memory import MemoryStorage, listing, memory_storage, order
from flowkit.memory.order import NumberSet, Shelf
from flowkit.memory.run import Run
from flowkit.records import (
    AnyOf,
    Commit,
    Created,
    Durability,
    Exactly,
    Finish,
    Grant,
    Lease,
    NewRun,
    RunQuery,
    RunStatus,
    Suspend,
)
from flowkit.storage import Storage, open_storage
from flowkit_testing.contract import StorageContract
from flowkit_testing.contract.keeping import Opening

PATIENCE_S = 60.0


class TestMemoryStorage(StorageContract):
    """The reference storage."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """Nothing is on disk."""
        del tmp_path
        return MemoryStorage()

    def reopen(self, storage: Storage) -> Storage:
        """Another object on the same state."""
        storage.close()
        return self.another(storage)

    def another(self, storage: Storage) -> Storage:
        """As a second process would see it."""
        assert isinstance(storage, MemoryStorage)
        sibling = storage.sibling()
        sibling.open()
        return sibling


class TestDefaultHooks(Opening):
    """Whoever gives no more than `make_storage` gets its own storage back, closed and opened again."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """Nothing is on disk."""
        del tmp_path
        return MemoryStorage()


def test_a_contract_without_a_storage_says_so(tmp_path: Path) -> None:
    """`make_storage` is the one hook that has no default."""
    with pytest.raises(NotImplementedError):
        StorageContract().make_storage(tmp_path)


@pytest.fixture
def memory() -> Iterator[MemoryStorage]:
    """An opened memory storage."""
    storage = MemoryStorage()
    storage.open()
    yield storage
    storage.close()


def born(storage: Storage, run_id: str) -> Lease:
    """Create a run that is born claimed."""
    (answer,) = storage.submit([NewRun(run_id, "task", b"", grant=Grant("worker", f"born-{run_id}", 1000))], now_ms=0)
    assert isinstance(answer, Created)
    assert answer.lease is not None
    return answer.lease


def end(storage: Storage, lease: Lease) -> None:
    """Finish a run that has no entries."""
    finish = Finish(RunStatus.SUCCEEDED, b"")
    storage.commit([Commit(lease.run_id, lease.owner, lease.fence, "end", 0, then=finish)], now_ms=1)


# ---- URLs, opening, closing


def test_each_nameless_url_is_a_store_of_its_own() -> None:
    """`memory:` shares nothing."""
    first, second = memory_storage("memory:"), memory_storage("memory:")
    first.open()
    second.open()

    born(first, "run")

    assert second.load("run") is None


def test_a_name_is_shared_within_the_process() -> None:
    """`memory:name` is one store, also after every user of it has closed it."""
    first = memory_storage("memory:test-shared")
    first.open()
    born(first, "run")
    first.close()

    second = memory_storage("memory:test-shared")
    second.open()

    assert second.load("run") is not None


def test_closing_one_user_of_a_store_leaves_the_others_open(memory: MemoryStorage) -> None:
    """Each opened storage is closed for itself, and can be opened again."""
    other = memory.sibling()
    other.open()
    other.close()

    born(memory, "run")

    with pytest.raises(StorageError, match="not open"):
        other.load("run")
    other.open()
    assert other.load("run") is not None


def test_a_storage_must_be_opened() -> None:
    """Use before `open` is one clear error."""
    with pytest.raises(StorageError, match="not open"):
        MemoryStorage().stats()


@pytest.mark.parametrize("url", ["memory", "memory:a/b", "memory://", "memory:name?size=1", "disk:name"])
def test_a_url_that_says_more_is_refused(url: str) -> None:
    """The error shows the URL and says what to write."""
    with pytest.raises(ConfigurationError, match="write memory: or memory:name"):
        memory_storage(url)


def test_the_scheme_is_found_by_entry_point() -> None:
    """`open_storage` finds it as it finds a third party's."""
    assert isinstance(open_storage("memory:"), MemoryStorage)


def test_what_it_can_do_is_stated(memory: MemoryStorage) -> None:
    """Nothing survives the process, and no call waits."""
    capabilities = memory.open()

    assert capabilities.durability is Durability.MEMORY
    assert capabilities.instant
    assert not capabilities.server_time


def test_a_cursor_of_something_else_is_refused(memory: MemoryStorage) -> None:
    """A mistaken cursor is an error, no first page."""
    with pytest.raises(StorageError, match="no cursor"):
        memory.list_runs(RunQuery(), "next")


def test_the_first_run_of_a_task_wakes_who_waits_for_work(memory: MemoryStorage) -> None:
    """X1: an idle worker only waits for the tasks that it knew then; it looks again when there is another one."""
    waiter = Thread(target=memory.wait_for_work, args=(AnyOf(("task",)), PATIENCE_S), daemon=True)
    waiter.start()

    for turn in range(1000):
        memory.submit([NewRun(f"run-{turn}", f"task-{turn}", b"{}")])
        waiter.join(0.05)
        if not waiter.is_alive():
            return
    pytest.fail("nobody woke up")


def test_a_new_timer_wakes_who_waits_for_work(memory: MemoryStorage) -> None:
    """E4: an idle worker only knows the timers of its last claim, so it looks again when one is set."""
    lease = born(memory, "run")
    waiter = Thread(target=memory.wait_for_work, args=(AnyOf(("task",)), PATIENCE_S), daemon=True)
    waiter.start()

    for turn in range(1000):
        sleep = Suspend(wake_at_ms=10 + turn)
        memory.commit([Commit("run", lease.owner, lease.fence, f"sleep-{turn}", 0, then=sleep)], now_ms=turn)
        waiter.join(0.05)
        if not waiter.is_alive():
            return
        claimed = memory.claim(Grant("worker", f"token-{turn}", 1000), Exactly("run"), 1, now_ms=10 + turn)
        (lease,) = claimed.leases
    pytest.fail("nobody woke up")


# ---- what it costs, counted and not timed


def test_a_claim_looks_at_its_own_lanes_only(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """X4: behind a thousand runs of other tasks, finding one run looks at as many heads as behind none."""
    looks = 0
    first = Shelf.first

    def counted(shelf: Shelf[object]) -> object:
        nonlocal looks
        looks += 1
        return first(shelf)

    memory.submit([NewRun(f"other-{n}", f"task-{n % 50}", b"", priority=5) for n in range(1000)], now_ms=0)
    memory.submit([NewRun("known", "task", b"")], now_ms=0)
    monkeypatch.setattr(Shelf, "first", counted)

    claimed = memory.claim(Grant("worker", "token", 1000), AnyOf(("task",)), 1, now_ms=0)

    assert [lease.run_id for lease in claimed.leases] == ["known"]
    assert looks <= 5


def test_a_narrowed_page_looks_at_the_narrowest_index(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among a thousand finished runs the one that is pending is found at once."""
    memory.submit([NewRun("pending", "task", b"")], now_ms=0)
    for n in range(1000):
        end(memory, born(memory, f"run-{n}"))
    looked: list[str] = []
    fits = listing._fits  # noqa: SLF001 - counts how many runs a page looks at

    def counted(run: Run, query: RunQuery) -> bool:
        looked.append(run.new.run_id)
        return fits(run, query)

    monkeypatch.setattr(listing, "_fits", counted)

    page = memory.list_runs(RunQuery(RunStatus.PENDING, "task"))

    assert [header.run_id for header in page.headers] == ["pending"]
    assert looked == ["pending"]


def test_finished_runs_leave_nothing_in_the_lines(memory: MemoryStorage) -> None:
    """X3: a fast path that never claims from a line does not fill it either."""
    for n in range(500):
        end(memory, born(memory, f"run-{n}"))

    (lane,) = memory._state.lanes.values()  # noqa: SLF001 - what it holds is told nowhere else

    assert (len(lane.ready), len(lane.due)) == (0, 0)
    assert lane.ready.weight + lane.due.weight < 200


def test_forgotten_runs_leave_no_index_behind(memory: MemoryStorage) -> None:
    """X3: a tag that nobody carries any more takes no room."""
    for n in range(10):
        grant = Grant("worker", f"born-run-{n}", 1000)
        memory.submit([NewRun(f"run-{n}", f"task-{n}", b"", tags=(f"tag-{n}",), grant=grant)], now_ms=0)
        end(memory, Lease(f"run-{n}", f"born-run-{n}", 1))

    assert memory.purge(100) == 10
    state = memory._state  # noqa: SLF001 - what it holds is told nowhere else
    assert (state.runs, state.tokens, state.index.runs) == ({}, {}, {})
    assert (state.index._by_tag, state.index._by_task) == ({}, {})  # noqa: SLF001 - as above


# ---- the orders


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(0, 5))))
def test_a_shelf_is_a_sorted_dictionary(changes: list[tuple[int, int | None]]) -> None:
    """Whatever is put, moved and discarded, the first is the lowest, and the heap stays in proportion."""
    shelf: Shelf[int] = Shelf()
    plain: dict[int, int] = {}
    for item, rank in changes:
        if rank is None:
            shelf.discard(item)
            plain.pop(item, None)
        else:
            shelf.put(item, (rank, item))
            plain[item] = rank
        lowest = min(((rank, item) for item, rank in plain.items()), default=None)
        assert shelf.first() == (None if lowest is None else (lowest, lowest[1]))
        assert len(shelf) == len(plain)
        assert (item in shelf) == (item in plain)


def test_a_shelf_forgets_what_was_superseded() -> None:
    """A timer that is moved for ever takes the room of a few."""
    shelf: Shelf[str] = Shelf()
    shelf.put("last", (10**9,))
    for moment in range(10_000):
        shelf.put("moving", (moment,))

    assert shelf.weight < 200
    assert shelf.first() == ((9_999,), "moving")


@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), max_size=120), st.integers(0, 61))
def test_a_number_set_is_a_sorted_set(toggled: list[int], bound: int) -> None:
    """Numbers come back in order whatever order they came in, across its buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_BUCKET", 4)
        numbers = NumberSet()
        plain: set[int] = set()
        for number in toggled:
            if number in plain:
                numbers.remove(number)
            else:
                numbers.add(number)
            plain ^= {number}

        assert list(numbers.below(bound)) == sorted((n for n in plain if n < bound), reverse=True)
        assert len(numbers) == len(plain)


def test_a_bucket_that_grows_in_the_middle_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that come last but belong first do not make one long list."""
    monkeypatch.setattr(order, "_BUCKET", 4)
    numbers = NumberSet()
    for number in reversed(range(100)):
        numbers.add(number)

    assert list(numbers.below(50)) == list(reversed(range(50)))
    assert max(len(bucket) for bucket in numbers._buckets) <= 8  # noqa: SLF001 - how it keeps them is told nowhere else


def test_a_timer_set_between_a_claim_and_a_wait_wakes(memory: MemoryStorage) -> None:
    """E4: whoever was told of no timer does not wait past one that was set before it began to wait."""
    lease = born(memory, "run")
    assert memory.claim(Grant("worker", "idle", 1000), AnyOf(("task",)), 1, now_ms=0).leases == ()
    memory.commit([Commit("run", lease.owner, lease.fence, "sleep", 0, then=Suspend(wake_at_ms=5))], now_ms=0)

    waiter = Thread(target=memory.wait_for_work, args=(AnyOf(("task",)), 2 * PATIENCE_S), daemon=True)
    waiter.start()
    waiter.join(PATIENCE_S)
    assert not waiter.is_alive()
