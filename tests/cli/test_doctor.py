"""`flowkit doctor`: what the storage is worth, what waits in it, what to change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner

from flowkit.cli import doctor_command
from flowkit.cli.app import cli
from flowkit.cli.diagnosis import SLOW_MS, Diagnosis, durability_advice
from flowkit.cli.loading import load_task
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.flow import Flow
from flowkit.presence import Member, announce, workers
from flowkit.records import Durability, NewRun

Call = Callable[..., Any]


def test_memory_is_advised_against(flowkit: Call) -> None:
    """Memory keeps nothing, so there is something to change: exit code 1."""
    ended = flowkit("doctor")
    assert ended.code == 1
    assert "durability  memory: what is recorded survives nothing" in ended.out
    assert "use disk:PATH" in ended.out


def test_disk_is_measured(tmp_path: Path) -> None:
    """On disk the durability, the time of a write and the counts are told, and where the URL comes from."""
    url = f"disk:{tmp_path / 'runs'}"
    ended = CliRunner().invoke(cli, ["doctor", "--json"], env={"FLOWKIT_STORAGE": url})
    found = json.loads(ended.stdout)
    assert (ended.exit_code, found["advice"]) == (0, []) or found["write_ms"] > SLOW_MS
    assert (found["storage"], found["from"], found["durability"]) == (url, "FLOWKIT_STORAGE", "disk")
    assert found["write_ms"] > 0
    assert found["queues"] == []


def test_runs_are_counted(flowkit: Call, shop: str) -> None:
    """How many runs stand how is told."""
    flowkit("run", f"{shop}:nothing")
    flowkit("run", f"{shop}:refuse", "--input", '"no"')
    assert "1 succeeded, 1 failed" in flowkit("doctor").out
    assert flowkit("doctor", "--json").json["runs"]["failed"] == 1


def test_blocked_runs_are_pointed_out(flowkit: Call, shop: str, flow: Flow) -> None:
    """A blocked run is something to look at."""
    task = load_task(f"{shop}:nothing")
    entry = encode(flow.engine.codec, Entry(Kind.STEP, Phase.DONE, "1", "gone", 0))
    flow.engine.create(evolve(flow.engine.new_run(task.spec, (), {}, run_id="b"), entries=(entry,)))
    assert flowkit("run", f"{shop}:nothing", "--run-id", "b").code == 3
    ended = flowkit("doctor")
    assert ended.code == 1
    assert "1 run blocked until someone mends something" in ended.out


def test_waiting_runs_and_unknown_tasks(flowkit: Call, shop: str, flow: Flow) -> None:
    """Ready runs are counted by queue and task; with --app, those that the code does not have are pointed out."""
    flow.engine.create(NewRun("lost", "nobodys-task", b"{}", queue="slow"))
    flow.engine.create(NewRun("known", "shop-nothing", b"{}"))
    plain = flowkit("doctor").out
    assert "queue       slow: 1 wait, 0 under way, of task nobodys-task\n" in plain
    out = flowkit("doctor", "--app", shop).out
    assert "slow: 1 wait, 0 under way, of task nobodys-task  unknown task" in out
    assert "default: 1 wait, 0 under way, of task shop-nothing\n" in out
    assert "runs of task 'nobodys-task' wait" in out
    queues = flowkit("doctor", "--app", shop, "--json").json["queues"]
    assert {each["task"]: each["known"] for each in queues} == {"nobodys-task": False, "shop-nothing": True}


def test_workers_and_what_none_of_them_serves(flowkit: Call, flow: Flow) -> None:
    """X4: workers that live are shown, and runs whose task or queue none of them serves are pointed out."""
    storage, now_ms = flow.engine.storage, flow.engine.clock.now_ms()
    announce(storage, "gone", Member(("slow",), ("shop-nothing",), 1, now_ms - 1), now_ms - 9)
    announce(storage, "host-1", Member(("default", "mail"), ("shop-nothing",), 7, now_ms + 60_000), now_ms)
    for run_id, task, queue in (("a", "shop-nothing", "mail"), ("b", "shop-nothing", "slow"), ("c", "odd", "mail")):
        flow.engine.create(NewRun(run_id, task, b"{}", queue=queue))

    out = flowkit("doctor").out

    assert "worker      host-1: 7 at a time, 1 tasks, queues default, mail\n" in out
    assert "gone" not in out
    assert "runs of task 'odd' wait, but no worker that is alive knows it" in out
    assert "task 'shop-nothing' wait in queue 'slow', which no worker that knows it serves" in out
    assert "flowkit worker MODULE --queues slow" in out
    assert out.count("shop-nothing' wait") == 1
    assert flowkit("doctor", "--json").json["workers"]["host-1"]["queues"] == ["default", "mail"]


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"w": 1}', b'{"w": {"queues": "x"}}', b"\xff"])
def test_damaged_words_of_workers_are_no_words(flowkit: Call, flow: Flow, damaged: bytes) -> None:
    """Whatever lies there, the doctor goes on, and so does a worker that announces itself."""
    storage = flow.engine.storage
    storage.compare_and_set("flowkit:workers", 0, damaged)
    assert flowkit("doctor", "--json").json["workers"] == {}
    assert announce(storage, "w", Member(("q",), ("t",), 1, 2**50), 0)
    assert list(workers(storage, 0)) == ["w"]


@pytest.mark.parametrize(
    ("level", "write_ms", "words"),
    [
        (Durability.PROCESS, 0.1, "may be lost in a power cut"),
        (Durability.DISK, 0.001, "less than any disk needs"),
        (Durability.DISK, 50.0, "takes 50 ms"),
    ],
)
def test_advice_on_durability(level: Durability, write_ms: float, words: str) -> None:
    """A weaker level, a disk too quick to be one, and a slow one are each worth a word."""
    [advice] = durability_advice(level, write_ms)
    assert words in advice


def test_good_storages_need_no_advice() -> None:
    """A disk that takes its time, and a replicated storage, are well."""
    assert durability_advice(Durability.DISK, 1.0) == durability_advice(Durability.REPLICATED, 0.1) == []


def test_storage_that_is_not_there() -> None:
    """A storage that cannot be opened is exit code 5, without a traceback, and secrets are not shown."""
    ended = CliRunner().invoke(cli, ["doctor", "--storage", "disk:/proc/nowhere"])
    assert ended.exit_code == 5
    assert "/proc/nowhere" in ended.stderr


def test_nothing_to_change_is_said(monkeypatch: pytest.MonkeyPatch, flowkit: Call) -> None:
    """A storage that is well is told so; exit code 0."""
    well = Diagnosis(Durability.DISK, "a power cut", 1.0, {}, (), {}, ())
    monkeypatch.setattr(doctor_command, "diagnose", lambda *_: well)
    ended = flowkit("doctor")
    assert (ended.code, "nothing to change" in ended.out, "runs        none" in ended.out) == (0, True, True)
