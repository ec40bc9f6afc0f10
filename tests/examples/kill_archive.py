"""Archive a folder, killed with SIGKILL again and again on the way, then audit what came of it.

    python kill_archive.py SOURCE DEST --kills 20 --seed 1

Prints what was found as JSON; the exit code is 0 only if every file is stored once, whole, and no completed step ran
again. That is proved by a log that the steps write themselves, line by line: one line when a step's function begins,
one when it has ended. Since the archive is sequential, a step was completed as soon as the next one began; so a step
may only be seen again if it was the last to begin in a process that was killed.

Half of the kills hit exactly at a line of the log, the others a random moment later, wherever the process is by then.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from attrs import asdict, evolve, frozen

from flowkit import Flow, Step
from flowkit.inspection import recorded_calls

ARCHIVE = Path(__file__).parents[2] / "examples" / "archive.py"
STEPS = ("prepare", "list_folder", "fingerprint", "compress", "store", "verify", "write_index")
LONGEST_DELAY_S = 0.003
MOST_LATER = 40  # events between the moment that was chosen and the kill
SHARE_UNDER_FIRE = 0.7  # of all events, so that every kill finds something to kill


# ---- in the process that is killed ----------------------------------------------------------------------------------


def child(log: Path, kill_at: int, delay_s: float | None, source: str, dest: str) -> int:
    """Run the example with its steps wrapped; die at an event of the log, or soon after."""
    module = _load_archive()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen = 0

    def event(text: str) -> None:
        nonlocal seen
        os.write(descriptor, f"{text}\n".encode("utf-8", "surrogateescape"))
        seen += 1
        if seen == kill_at:
            if delay_s is None:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=_die_after, args=(delay_s,), daemon=True).start()
        elif seen == kill_at + MOST_LATER and kill_at:
            threading.Event().wait()  # where threads start late, the archive must not be done before it is killed

    os.write(descriptor, f"session {os.getpid()}\n".encode())
    for name in STEPS:
        setattr(module, name, _logged(getattr(module, name), event))
    return int(module.main([source, dest]))


def _load_archive() -> ModuleType:
    """The example, under the name that it has everywhere else."""
    spec = importlib.util.spec_from_file_location("archive", ARCHIVE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["archive"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _logged(step: Step[..., object], event: Callable[[str], None]) -> Step[..., object]:
    function = step.spec.fn

    def wrapped(*args: object) -> object:
        what = f"{step.name} {_identity(args)}"
        event(f"begin {what}")
        value = function(*args)
        event(f"end {what}")
        return value

    return Step(evolve(step.spec, fn=wrapped))


def _identity(args: tuple[object, ...]) -> str:
    """Which call of the step it is: its folder, file or content."""
    texts = [str(arg) for arg in args if isinstance(arg, str)] or [str(getattr(args[-1], "sha256", ""))]
    return json.dumps(texts)


def _die_after(delay_s: float) -> None:
    time.sleep(delay_s)
    os.kill(os.getpid(), signal.SIGKILL)


# ---- the process that kills -----------------------------------------------------------------------------------------


def kill_and_resume(source: Path, dest: Path, log: Path, kills: int, seed: int) -> int:
    """Start the archive, kill it so many times, let it end; returns how many kills struck."""
    chance, struck = random.Random(seed), 0
    events = 8 * sum(len(names) for _, _, names in os.walk(source))  # four steps a file, each begins and ends
    most = max(1, round(events * SHARE_UNDER_FIRE / max(1, kills)))
    for number in range(kills):
        delay = "exactly" if number % 2 == 0 else str(chance.uniform(0, LONGEST_DELAY_S))
        code = _start(log, str(chance.randint(1, most)), delay, source, dest)
        if code == 0:
            return struck
        if code != -signal.SIGKILL:
            raise AssertionError(f"the archive ended with exit code {code} before it was killed")
        struck += 1
    code = _start(log, "0", "exactly", source, dest)
    if code:
        raise AssertionError(f"the archive ended with exit code {code} after {struck} kills")
    return struck


def _start(log: Path, kill_at: str, delay: str, source: Path, dest: Path) -> int:
    command = [sys.executable, __file__, "--child", str(log), kill_at, delay, str(source), str(dest)]
    return subprocess.run(command, check=False, stdout=sys.stderr).returncode


# ---- the audit ------------------------------------------------------------------------------------------------------


@frozen
class Found:
    """What the audit counted."""

    kills: int
    sessions: int
    steps: int  # distinct calls
    again: int  # calls begun a second time, each the last of a killed process
    files: int
    objects: int


def audit(source: Path, dest: Path, log: Path, kills: int) -> Found:
    """Look at the log, the journal and the store.

    Raises:
        AssertionError: something is not as promised.
    """
    sessions = list(_sessions(log))
    begun = Counter(call for session in sessions for call in session)
    last = Counter(session[-1] for session in sessions[:-1] if session)
    for call, times in begun.items():
        assert times <= 1 + last[call], f"completed, yet run again: {call}"
    _audit_journal(dest, len(begun))
    stored = Counter(call for call in begun if call.startswith("store "))
    files = _audit_store(source, dest)
    objects = len(list(dest.glob("objects/*.gz")))
    assert objects == len(stored) == len(set(files.values())), "every content is stored once"
    assert not list(dest.glob("partial/*")), "nothing half-written is left"
    return Found(kills, len(sessions), len(begun), sum(begun.values()) - len(begun), len(files), objects)


def _sessions(log: Path) -> Iterator[list[str]]:
    """The calls begun by each process, in their order."""
    for part in log.read_text(encoding="utf-8", errors="surrogateescape").split("session ")[1:]:
        yield [line.removeprefix("begin ") for line in part.splitlines() if line.startswith("begin ")]


def _audit_journal(dest: Path, distinct: int) -> None:
    with Flow(f"disk:{dest}/journal", worker=False) as flow:
        [header] = flow.runs()
        calls = recorded_calls(flow.engine.codec, flow.engine.load(header.run_id))
    assert len(calls) == distinct, f"{len(calls)} steps are recorded, {distinct} were begun"
    assert all(call.ended_at_ms is not None for call in calls)


def _audit_store(source: Path, dest: Path) -> dict[str, str]:
    """Compare the index and the store with the source; the digest of each file by its path."""
    index = json.loads((dest / "archive.json").read_text())
    kept: dict[str, str] = {each["path"]: each["sha256"] for each in index["files"]}
    out = {each["path"] for each in index["left_out"]}
    links = {each["path"]: each["target"] for each in index["links"]}
    for path in _below(source):
        name = path.relative_to(source).as_posix()
        if path.is_symlink():
            assert links.pop(name) == str(path.readlink())
        elif path.is_file() and name not in out:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert kept[name] == digest
            with gzip.open(dest / "objects" / f"{digest}.gz") as packed:
                assert hashlib.file_digest(packed, "sha256").hexdigest() == digest
    assert not links
    assert len(kept) + len(out) == sum(1 for path in _below(source) if not path.is_symlink() and not path.is_dir())
    return kept


def _below(source: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(source):
        yield from (Path(folder, name) for name in (*folders, *files))


def main() -> int:
    """Kill, resume, audit, tell."""
    if sys.argv[1:2] == ["--child"]:
        log, kill_at, delay, source, dest = sys.argv[2:]
        return child(Path(log), int(kill_at), None if delay == "exactly" else float(delay), source, dest)
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    source, dest = given.source.resolve(), given.dest.resolve()
    dest.mkdir(parents=True, exist_ok=True)
    log = dest.parent / f"{dest.name}.effects.log"
    log.unlink(missing_ok=True)
    kills = kill_and_resume(source, dest, log, given.kills, given.seed)
    found = audit(source, dest, log, kills)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
