"""A workflow that other processes can import: its effects are lines in a file, which outlive whoever wrote them."""

from pathlib import Path

from flowkit import current_run, step, task


def lines(file: str) -> list[str]:
    """What was done, in order."""
    return Path(file).read_text("utf-8").splitlines()


def _add(file: str, line: str) -> None:
    """Do something that is not done twice under one key."""
    line = f"{line} {current_run().idempotency_key.rpartition(':')[2]}"
    if line not in lines(file):
        with Path(file).open("a", encoding="utf-8") as open_file:
            open_file.write(f"{line}\n")


@step
def book(file: str, what: str) -> str:
    """Book one thing."""
    _add(file, f"booked {what}")
    return what


@book.compensate
def cancel(what: str, file: str) -> None:
    """Take it back."""
    _add(file, f"cancelled {what}")


@step(attempts=1)
def pay(file: str) -> None:
    """Fails."""
    _add(file, "refused")
    raise OSError("no money")


@task(id="promises-trip-undone")
def trip_undone(file: str) -> None:
    """Two bookings that are taken back."""
    book(file, "flight")
    book(file, "hotel")
    pay(file)
