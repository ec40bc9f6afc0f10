"""Workflows that a crash breaks, each in a way of its own. What they change is in a file, which processes share."""

from __future__ import annotations

from pathlib import Path

from flowkit import on_rollback, saga, step, task

_memory: dict[str, int] = {}


def lines(file: str) -> list[str]:
    """What is in the file."""
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


def add(file: str, line: str) -> None:
    """Put a line behind the others."""
    with Path(file).open("a") as opened:
        opened.write(line + "\n")


@step
def append(file: str, line: str) -> int:
    """Whatever becomes of its result, the line is there."""
    add(file, line)
    return len(line)


@step
def read(file: str) -> list[str]:
    """What is in the file."""
    return lines(file)


@step
def write_once(file: str, line: str) -> int:
    """Sees whether the line is there."""
    if line not in lines(file):
        add(file, line)
    return len(line)


@step
def refuse(file: str) -> None:
    """Never works."""
    raise ValueError(file)


@step
def same(word: str) -> str:
    """Gives back what it gets."""
    return word


@step
def remember(file: str) -> str:
    """Leaves something in the process, which a replay does not do again."""
    _memory[file] = 1
    return file


@task(id="unsafe-appends")
def appends(file: str) -> int:
    """Steps that cannot be repeated."""
    return append(file, "one") + append(file, "two")


@task(id="unsafe-counts")
def counts(file: str) -> int:
    """Its result depends on how often a step was tried."""
    append(file, "one")
    return len(read(file))


@task(id="unsafe-looks")
def looks(file: str) -> int:
    """Goes another way when it is replayed, by what it finds outside."""
    done = 0
    if "one" not in lines(file):
        done += write_once(file, "one")
    return done + len(read(file))


@task(id="unsafe-registers-late")
def registers_late(file: str) -> None:
    """Nothing knows how to undo what was done until after it was done."""
    with saga("late"):
        add(file, "booked")
        on_rollback(add, file, "taken back")
        refuse(file)


@task(id="unsafe-remembers")
def remembers(file: str) -> int:
    """Reads what a step has left in its process."""
    _memory.pop(file, None)
    remember(file)
    write_once(file, "one")
    return _memory.get(file, 0)


@task(id="unsafe-keeps")
def keeps(file: str) -> int:
    """As `remembers`, without clearing up first: as long as the process lives, nobody notices."""
    remember(file)
    write_once(file, "one")
    return _memory.get(file, 0)


@task(id="unsafe-iterates")
def iterates(file: str) -> str:
    """The order of a set of texts is another one in each process."""
    return "".join(str(same(word)) for word in {f"word-{number}" for number in range(8)}) + file
