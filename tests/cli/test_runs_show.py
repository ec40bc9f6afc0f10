"""`flowkit runs show`: a run's timeline, what cannot be read of it, and what of it was undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from flowkit.cli.loading import load_task
from flowkit.cli.timeline import Span
from flowkit.codec import Json, JsonCodec
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.flow import Flow
from flowkit.inspection import RecordedCall, recorded_calls, rollbacks
from flowkit.records import Commit, Exactly, Finish, Grant, NewRun, RunStatus

Call = Callable[..., Any]
ORDER = json.dumps({"order": {"id": "a"}})


def test_show_draws_the_timeline(flowkit: Call, shop: str) -> None:
    """Input, outcome, and each step with its bar, tries, outcome and errors."""
    flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "a"}, "fails": 1}', "--run-id", "o1")
    out = flowkit("runs", "show", "o1", "--values").out
    assert out.startswith("o1  shop-order  succeeded\n")
    assert 'input    (order={"id": "a", "count": 1}, fails=1)' in out
    assert 'value    {"reservation": "reserved a", "paid": 10}' in out
    [charge] = [line for line in out.splitlines() if " charge " in line]
    assert charge.split()[-2:] == ["2", "✓"]
    assert "ConnectionError: the bank is away" in out
    assert '"reserved a"' in out


def test_show_tells_a_failure(flowkit: Call, shop: str) -> None:
    """A failed run shows its error, at the top and at the step."""
    flowkit("run", f"{shop}:refuse", "--input", '"no reason"', "--run-id", "r1")
    out = flowkit("runs", "show", "r1").out
    assert "error    Refused: no reason" in out
    assert "✗ failed" in out
    assert "shop-refuse itself" in out


def test_show_as_json(flowkit: Call, shop: str) -> None:
    """The document holds the run, its input, its outcome and every recorded call."""
    flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "a"}, "fails": 1}', "--run-id", "o1")
    shown = flowkit("runs", "show", "o1", "--json").json
    assert (shown["run_id"], shown["task"], shown["status"], shown["entries"]) == ("o1", "shop-order", "succeeded", 3)
    assert shown["input"] == {"args": [], "kwargs": {"order": {"id": "a", "count": 1}, "fails": 1}}
    assert (shown["value"], shown["error"], shown["unreadable"]) == (
        {"reservation": "reserved a", "paid": 10},
        None,
        None,
    )
    assert [(call["name"], call["state"], call["attempts"], call["value"]) for call in shown["timeline"]] == [
        ("reserve", "done", 1, "reserved a"),
        ("charge", "done", 2, 10),
    ]
    assert shown["timeline"][1]["errors"] == ["ConnectionError: the bank is away"]


def test_show_of_a_run_that_is_not_there(flowkit: Call) -> None:
    """An unknown run is exit code 4, in words and in JSON."""
    assert flowkit("runs", "show", "nowhere").code == 4
    ended = flowkit("runs", "show", "nowhere", "--json")
    assert (ended.code, ended.json["exit_code"]) == (4, 4)


def test_show_of_a_run_that_waits(flowkit: Call, flow: Flow) -> None:
    """A run that nobody has begun shows its queue and when it is due."""
    due_ms = flow.engine.clock.now_ms() + 60_000
    flow.engine.create(NewRun("later", "t", b"{}", queue="slow", tags=("vip",), parent="p", start_at_ms=due_ms))
    out = flowkit("runs", "show", "later").out
    assert "nothing recorded yet" in out
    for words in ("due ", "queue    slow", "tags     vip", "parent   p", "has format None"):
        assert words in out


def test_show_of_what_this_codec_cannot_read(flowkit: Call, flow: Flow) -> None:
    """Of a run written by another codec the timeline is drawn all the same, and what is unreadable is said."""
    flow.engine.create(NewRun("o2", "t", b"\xff", entries=(b'[1,"step","done","1","secret",1000,"",5]\n\xff\xff',)))
    shown = flowkit("runs", "show", "o2", "--json").json
    assert [(call["name"], call["value"]) for call in shown["timeline"]] == [("secret", None)]
    assert "codec" in shown["unreadable"]
    assert "secret" in flowkit("runs", "show", "o2").out


def test_show_of_a_run_that_someone_has(flowkit: Call, shop: str, flow: Flow) -> None:
    """Who holds a run, how often its worker died, and values that go on and on, cut off, are shown."""
    engine = flow.engine
    task = load_task(f"{shop}:refuse")
    engine.create(engine.new_run(task.spec, ("x" * 1000,), {}, run_id="held"))
    [lease] = engine.storage.claim(engine.grant(), Exactly("held"), 1).leases
    out = flowkit("runs", "show", "held").out
    assert f"worker   {engine.worker_id}" in out
    assert "… (1,002 characters)" in out
    later_ms = engine.clock.now_ms() + 10**9
    engine.storage.claim(Grant("another", "token", 1000), Exactly("held"), 1, now_ms=later_ms)
    assert "crashes  1 in a row" in flowkit("runs", "show", "held").out
    assert "1 crash in a row" in flowkit("runs", "list").out
    assert lease.run_id == "held"


def test_show_of_a_result_that_cannot_be_read(flowkit: Call, flow: Flow) -> None:
    """A result that this codec cannot read is said to be so, and the rest is shown."""
    engine = flow.engine
    engine.create(NewRun("odd", "t", b"{}"))
    [lease] = engine.storage.claim(engine.grant(), Exactly("odd"), 1).leases
    finish = Finish(RunStatus.SUCCEEDED, b"\xff")
    engine.storage.commit([Commit("odd", lease.owner, lease.fence, "c", 0, then=finish)])
    assert "result   stored bytes are not the JSON" in flowkit("runs", "show", "odd").out


def test_children_are_told_from_steps(flowkit: Call, shop: str) -> None:
    """A child run in the timeline is marked as one."""
    flowkit("run", f"{shop}:parent", "--input", ORDER, "--run-id", "p")
    assert "shop-order  child" in flowkit("runs", "show", "p").out


def test_long_runs_are_folded(flowkit: Call, flow: Flow) -> None:
    """Of a long run the first and last steps are shown, and those that failed; --all shows every one."""
    codec = JsonCodec()
    entries = [encode(codec, Entry(Kind.STEP, Phase.DONE, str(n), f"s{n}", 1000 + n)) for n in range(1, 201)]
    entries[99] = encode(
        codec, Entry(Kind.STEP, Phase.FAILED, "100", "s100", 1100, "", {"error": {"error": "x:Bad"}, "attempts": 1})
    )
    flow.engine.create(NewRun("long", "t", b"{}", entries=tuple(entries)))
    out = flowkit("runs", "show", "long").out
    assert "… 39 more" in out
    assert "… 80 more" in out
    assert " s100 " in out
    assert " s101 " not in out
    assert " s101 " in flowkit("runs", "show", "long", "--all").out
    assert "reused" in out


@pytest.mark.parametrize(
    ("began", "ended", "drawn"),
    [
        (0, 100, "█" * 20),
        (50, 75, " " * 10 + "█" * 5),
        (50, 51, " " * 10 + "█"),
        (99, None, " " * 19 + "█"),
        (0, 0, "▏"),
        (100, 100, " " * 19 + "▏"),
    ],
)
def test_bars_lie_where_their_calls_do(began: int, ended: int | None, drawn: str) -> None:
    """However early, late or short a call is, its bar has a place in the picture."""
    call = RecordedCall("step", "s", "1", "done", began, ended)

    assert Span(0, 100, 20).bar(call).plain == drawn


def test_calls_of_a_later_version_are_shown_as_they_are(flowkit: Call, flow: Flow) -> None:
    """A phase that this version does not know is shown by its name."""
    flow.engine.create(NewRun("new", "t", b"{}", entries=(b'[1,"vote","adjourned","1","ballot",1000,"",0]\nnull',)))
    out = flowkit("runs", "show", "new").out
    assert "ballot  vote" in out
    assert "adjourned" in out


def test_recorded_calls_put_entries_together() -> None:
    """Attempts, starts and outcomes of one operation are one call; what befell the run stands beside them."""
    codec = JsonCodec()
    error: Json = {"error": "builtins:ValueError", "args": ["bad"]}
    entries = (
        Entry(Kind.STEP, Phase.BEGUN, "1", "once", 1000),
        Entry(Kind.STEP, Phase.DONE, "1", "once", 1010, "", "v", 10),
        Entry(Kind.STEP, Phase.ATTEMPT, "2", "s", 1030, "", {"attempt": 1, "retry_at": 1040, "error": error}, 5),
        Entry(Kind.STEP, Phase.FAILED, "2", "s", 1050, "", {"error": error, "attempts": 2}, 5),
        Entry(Kind.RUN, Phase.FAILED, "", "t", 1051, "", {"error": error, "again": ["2"]}),
        Entry(Kind.RUN, Phase.REOPENED, "", "run", 1060, "", {"keys": ["2"]}),
        Entry(Kind.STEP, Phase.DONE, "2", "s", 1070, "", 7, 3),
        Entry(Kind.SLEEP, Phase.BEGUN, "3", "sleep", 1071, "", 9999),
    )
    with Flow("memory:", worker=False) as flow:
        flow.engine.create(NewRun("r", "t", b"{}", entries=tuple(encode(codec, entry) for entry in entries)))
        calls = recorded_calls(codec, flow.engine.load("r"))
    assert calls == (
        RecordedCall("step", "once", "1", "done", 1000, 1010, 1, (), "v"),
        RecordedCall("step", "s", "2", "done", 1025, 1070, 3, ("ValueError: bad", "ValueError: bad"), 7),
        RecordedCall("run", "t", "", "failed", 1051, 1051, 1, ("ValueError: bad",)),
        RecordedCall("run", "run", "", "reopened", 1060, 1060, 1),
        RecordedCall("sleep", "sleep", "3", "begun", 1071, None, 0, (), 9999),
    )


def test_show_tells_what_was_undone_and_why(flowkit: Call, shop: str) -> None:
    """A run that was undone tells what of it was, and the error that it was left by."""
    flowkit("run", f"{shop}:undone", "--run-id", "u")
    shown = flowkit("runs", "show", "u", "--json").json
    assert shown["rollbacks"] == [
        {"name": "shop-undone", "cause": "Refused: no carrier", "undone": ["pay"], "failed": [], "left": []}
    ]
    text = flowkit("runs", "show", "u").out
    assert "undoing  shop-undone, because of Refused: no carrier" in text
    assert "undone   pay" in text


def test_show_tells_what_is_still_to_be_undone(flowkit: Call, shop: str, flow: Flow) -> None:
    """A rollback that was cut short tells what is left, and one whose undo has failed tells that."""
    flowkit("run", f"{shop}:undone", "--run-id", "u")
    snapshot = flow.engine.load("u")
    entries = snapshot.entries[: next(at for at, raw in enumerate(snapshot.entries) if b'"rollback"' in raw) + 1]
    [cut] = rollbacks(flow.engine.codec, evolve(snapshot, entries=entries))
    assert (cut.undone, cut.left) == ((), ("pay",))
    failed = encode(flow.engine.codec, Entry(Kind.UNDO, Phase.FAILED, "1~undo", "pay", 0, "", {"error": None}))
    [broken] = rollbacks(flow.engine.codec, evolve(snapshot, entries=(*entries, failed)))
    assert (broken.undone, broken.failed, broken.left) == ((), ("pay",), ())
