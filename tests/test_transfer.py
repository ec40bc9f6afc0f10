"""Runs move from one storage to another with all that belongs to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowkit import Flow, sleep, step, task
from flowkit.cli.app import cli
from flowkit.errors import StorageError
from flowkit.memory import MemoryStorage
from flowkit.records import (
    AnyOf,
    Block,
    Commit,
    Created,
    Exactly,
    Finish,
    Grant,
    Lease,
    Limit,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Suspend,
    Then,
    Yield,
)
from flowkit.storage import Storage, open_storage
from flowkit.transfer import export_runs, import_run
from flowkit_testing.servers import Server

FAR_MS = 4_000_000_000_000


def opened(storage: Storage) -> Storage:
    """Ready for use."""
    storage.open()
    return storage


def born(storage: Storage, run_id: str, **more: object) -> Lease:
    """A run under a lease."""
    new = NewRun(run_id, "task", b'{"v":1}', grant=Grant("w", f"t-{run_id}", 60_000), **more)  # type: ignore[arg-type]  # a few fields
    (answer,) = storage.submit([new])
    assert isinstance(answer, Created)
    assert answer.lease is not None
    return answer.lease


def end(storage: Storage, lease: Lease, then: Then, *entries: bytes) -> None:
    """Write, and let go."""
    storage.commit([Commit(lease.run_id, lease.owner, lease.fence, "c", 0, entries, then=then)])


def lines(storage: Storage) -> list[str]:
    """Everything, exported."""
    return [each.line for each in export_runs(storage, RunQuery()) if each.line is not None]


@pytest.fixture(params=["memory", "disk", "redis"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Where runs move to."""
    if request.param == "memory":
        return opened(MemoryStorage())
    if request.param == "disk":
        return opened(open_storage(f"disk:{tmp_path / 'target'}?durability=process"))
    server: Server = request.getfixturevalue("flowkit_redis_server")
    return opened(open_storage(f"{server.url}?namespace=moved-{tmp_path.name}-{tmp_path.parent.name}"))


def test_every_kind_of_run_moves_whole(target: Storage) -> None:
    """X1: where it stood it stands again: journal, inbox, outcome, marks; what is held is left out."""
    source = opened(MemoryStorage())
    end(source, born(source, "done", tags=("a", "b"), priority=3), Finish(RunStatus.SUCCEEDED, b"\x00\xff"), b"1", b"2")
    end(source, born(source, "failed", limit=Limit(1)), Finish(RunStatus.FAILED, b"why"))
    end(source, born(source, "blocked", queue="q", parent="done"), Block(b"reason"), b"x")
    end(source, born(source, "ready"), Yield(), b"progress")
    source.submit([NewRun("later", "task", b"", start_at_ms=FAR_MS)])
    end(source, born(source, "waits"), Suspend(inbox_at_least=2), b"y")
    source.send("waits", Message("m1", MessageKind.EVENT, "event", b"\xfe"))
    end(source, born(source, "reopened"), Finish(RunStatus.FAILED, b"why"))
    source.send("reopened", Message("r1", MessageKind.REOPEN, "retry", b"again"))
    source.submit([NewRun("cancelled", "task", b"")])
    source.send("cancelled", Message("c1", MessageKind.CANCEL))
    born(source, "held")

    exported = lines(source)
    assert [import_run(target, line) for line in exported] == [
        "done",
        "failed",
        "blocked",
        "ready",
        "later",
        "waits",
        "reopened",
        "cancelled",
    ]
    assert [import_run(target, line) for line in exported] == [None] * 8  # they are there

    for run_id in ("done", "failed", "blocked", "ready", "later", "reopened", "cancelled", "waits"):
        before, after = source.load(run_id), target.load(run_id)
        assert before is not None
        assert after is not None
        assert (after.input, after.entries, after.result) == (before.input, before.entries, before.result)
        assert after.inbox == before.inbox
        assert (after.header.tags, after.header.priority) == (before.header.tags, before.header.priority)
        assert (after.header.queue, after.header.parent) == (before.header.queue, before.header.parent)
        assert (after.header.cancel, after.header.wake_at_ms) == (before.header.cancel, before.header.wake_at_ms)
        if run_id == "later":
            assert after.header.status is RunStatus.WAITING  # for its start
        elif run_id != "waits":  # it looks anew at what it waits for
            assert after.header.status == before.header.status
    assert target.load("held") is None
    granted = target.claim(Grant("w", "next", 1000), AnyOf(("task",)), 10).leases
    assert {lease.run_id for lease in granted} == {"ready", "waits", "reopened", "cancelled"}
    target.close()


@pytest.mark.parametrize("after", ["submit", "send"])
def test_an_import_that_broke_off_is_made_again(after: str) -> None:
    """D7: the second time completes the first; nobody has taken up the half of a run meanwhile."""
    source, target = opened(MemoryStorage()), opened(MemoryStorage())
    end(source, born(source, "run"), Block(b"reason"), b"1")
    source.send("run", Message("m", MessageKind.EVENT, "event", b"x"))
    (line,) = lines(source)
    broken = _Breaking(target, after)

    with pytest.raises(ConnectionError):
        import_run(broken.storage, line)
    assert target.claim(Grant("w", "thief", 1000), Exactly("run"), 1).leases == ()
    assert import_run(target, line) == "run"

    snapshot = target.load("run")
    assert snapshot is not None
    assert (snapshot.header.status, snapshot.entries, len(snapshot.inbox)) == (RunStatus.BLOCKED, (b"1",), 1)


class _Breaking:
    """A way to a storage that breaks after one call."""

    def __init__(self, inner: Storage, after: str) -> None:
        self._inner = inner
        self._after = after

    @property
    def storage(self) -> Storage:
        """This, as an import takes it."""
        return self  # type: ignore[return-value]  # by __getattr__

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            answer = getattr(self._inner, name)(*args, **kwargs)
            if name == self._after:
                raise ConnectionError
            return answer

        return call


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "no line of `flowkit runs export`: 'nonsense'"),
        ("[1]", "no line of `flowkit runs export`"),
        ("{}", "no line of `flowkit runs export`"),
        ('{"format": 99, "id": "r"}', "run 'r' was exported in format 99; this version of flowkit reads 1"),
        ('{"format": 1, "id": "r"}', "run 'r' is damaged in this export ('status' is missing)"),
    ],
)
def test_what_is_no_export_is_refused(line: str, says: str) -> None:
    """The error names the line and the remedy, and nothing is created."""
    storage = opened(MemoryStorage())

    with pytest.raises(StorageError) as caught:
        import_run(storage, line)

    assert says in str(caught.value)
    assert storage.list_runs(RunQuery()).headers == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("id", ""),
        ("task", None),
        ("status", "strange"),
        ("queue", []),
        ("priority", "high"),
        ("tags", 5),
        ("parent", {}),
        ("limit", {"places": 2}),
        ("input", {"base64": "!"}),
        ("input", 5),
        ("entries", [None]),
        ("inbox", [{"id": "m"}]),
        ("inbox", [{"id": "m", "kind": "shout", "name": "n", "payload": ""}]),
        ("result", 5),
    ],
)
def test_a_damaged_run_is_refused_whole(field: str, value: object) -> None:
    """Whatever is wrong in it, it is named, and nothing of it is created."""
    source, target = opened(MemoryStorage()), opened(MemoryStorage())
    end(source, born(source, "run", limit=Limit(1)), Finish(RunStatus.FAILED, b"why"), b"1")
    source.send("run", Message("r1", MessageKind.REOPEN, "retry", b"again"))
    (line,) = lines(source)

    with pytest.raises(StorageError, match=r"run .* is damaged in this export \(.+\): export it again"):
        import_run(target, json.dumps(json.loads(line) | {field: value}))

    assert target.list_runs(RunQuery()).headers == ()


@pytest.mark.parametrize("harm", [b"half", b"\xff\xfe"])
def test_half_a_file(harm: bytes, tmp_path: Path) -> None:
    """The line is named; what came before it is there; the whole file, imported again, completes the rest."""
    source = opened(MemoryStorage())
    for run_id in "abc":
        end(source, born(source, run_id), Finish(RunStatus.SUCCEEDED, b"1"))
    exported = "\n".join(lines(source)).encode()
    file, target = tmp_path / "runs.jsonl", f"disk:{tmp_path / 'target'}?durability=process"
    file.write_bytes(exported[: exported.rindex(b"\n") + 40] + (b"" if harm == b"half" else harm))

    broken = CliRunner().invoke(cli, ["runs", "import", str(file), "--storage", target])
    file.write_bytes(exported)
    mended = CliRunner().invoke(cli, ["runs", "import", str(file), "--storage", target])

    assert broken.exit_code != 0
    assert "Traceback" not in broken.stderr
    assert "runs.jsonl, line 3: " in broken.stderr
    assert "(2 runs imported, 0 already there)" in broken.stderr
    assert (mended.exit_code, mended.stderr.strip()) == (0, "1 run imported, 2 already there")


@step
def double(number: int) -> int:
    """A step whose effect is counted."""
    _calls.append(number)
    return 2 * number


_calls: list[int] = []


@task(id="transfer-napper")
def napper(number: int) -> int:
    """Steps around a nap."""
    first = double(number)
    sleep("2s")
    return double(first)


@pytest.mark.parametrize("direction", ["disk to redis", "redis to disk"])
def test_a_run_goes_on_elsewhere(direction: str, tmp_path: Path, flowkit_redis_server: Server) -> None:
    """D2: `flowkit runs export` and `import`: the rest of a run happens on the other storage, what was done is kept."""
    places = [f"disk:{tmp_path / 'disk'}?durability=process", f"{flowkit_redis_server.url}?namespace={tmp_path.name}"]
    here, there = places if direction == "disk to redis" else reversed(places)
    _calls.clear()
    with Flow(here, worker=True) as flow:
        napper.options(run_id="napper").trigger(21)
        until_asleep(flow)
    exported = CliRunner().invoke(cli, ["runs", "export", "--storage", here])
    assert (exported.exit_code, exported.stdout.count("\n")) == (0, 1)
    assert "1 runs exported" in exported.stderr

    imported = CliRunner().invoke(cli, ["runs", "import", "--storage", there], input=exported.stdout)

    assert "1 run imported, 0 already there" in imported.stderr
    with Flow(there, worker=True) as flow:
        assert flow.handle("napper").result(timeout=60) == 84
    assert _calls == [21, 42]


def until_asleep(flow: Flow) -> None:
    """Wait until the run waits for its timer."""
    handle = flow.handle("napper")
    revision = 0
    while handle.status() is not RunStatus.WAITING:
        header = flow.engine.storage.wait_for_run("napper", revision, 60)
        assert header is not None
        revision = header.revision
