"""Workflows of the gauntlet that the corpus has not."""

from __future__ import annotations

from flowkit import Retry, current_run, sleep, step, task, uuid4, wait_for_event, work
from flowkit_testing.corpus.steps import add, add_later, slowly


@task(id="gauntlet-two-events")
def two_events() -> list[object]:
    """Waits twice for an event of one name."""
    return [wait_for_event("news", timeout="1h"), add(1, 1), wait_for_event("news", timeout="1h")]


@task(id="gauntlet-unjoined")
async def unjoined(number: int) -> int:
    """Slow side work that nobody waits for."""
    work(slowly, number, 5)
    return await add_later(number, 1)


@task(id="gauntlet-draws")
def draws() -> str:
    """A result that is drawn by lot."""
    drawn = str(uuid4())
    add(1, 1)
    return drawn


@task(id="gauntlet-swallows")
def swallows() -> int:
    """Lets nothing out of a wait, as a bare `except:` does."""
    try:  # noqa: SIM105  # as written by whoever does not know better
        sleep("1h")
    except BaseException:  # noqa: BLE001, S110  # the point
        pass
    return add(1, 1)


@step(attempts=1)
def refuse() -> None:
    """Fails, and is tried once."""
    raise ValueError("no")


@task(id="gauntlet-gives-up")
def gives_up() -> None:
    """Fails with a step of its own."""
    refuse()


@step(retry=Retry(attempts=2, delay=3600, max_delay=3600))
def fail_once() -> int:
    """Succeeds an hour later."""
    if current_run().attempt == 1:
        raise OSError("not yet")
    return 1


@task(id="gauntlet-patient")
def patient() -> int:
    """Has a step that is tried again much later."""
    return fail_once()
