"""R4: code that would end its process, such as one that calls `sys.exit`, in a worker that others rely on."""

from typing import Any

import pytest

import flowkit
from flowkit import Flow, RunBlocked, RunStatus, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S


class Leaving(BaseException):
    """Neither an error nor a signal of Python's own, and it cannot even be told."""

    def __repr__(self) -> str:
        raise RuntimeError("not to be told")

    __str__ = __repr__


@pytest.mark.parametrize("leaving", [SystemExit, Leaving])
@pytest.mark.parametrize("piece", ["body", "step", "work", "undo", "child"])
def test_a_run_that_would_end_its_worker_is_blocked(
    working: Flow, colour: Colour, piece: str, leaving: type[BaseException]
) -> None:
    """R4: it is blocked, with the reason, at once; the worker goes on with others; mended, the run goes on."""
    mended: list[bool] = []

    def leave(where: str) -> None:
        if where == piece and not mended:
            raise leaving("now")

    @colour.step
    def effect() -> None:
        leave("step")

    @effect.compensate
    def undo(result: object) -> None:
        del result
        leave("undo")

    @colour.task(attempts=1)
    def child() -> Body[None]:
        yield from ()
        leave("child")

    @colour.task(attempts=1)
    def body() -> Body[str]:
        yield effect()
        yield child()
        flowkit.work(leave, "work")
        leave("body")
        if piece == "undo":
            raise ValueError("to be undone")
        return "done"

    @colour.task
    def other() -> Body[str]:
        yield from ()
        return "unharmed"

    handle: Any = working.start(body)
    with pytest.raises(RunBlocked, match=f"{leaving.__name__}.*flow.retry"):
        handle.result(timeout=PATIENCE_S)
    assert working.start(other).result(timeout=PATIENCE_S) == "unharmed"

    mended.append(True)
    for blocked in working.runs(status="blocked"):  # a child before its parent
        working.retry(blocked.run_id)
    ended = handle.wait_for_completion(timeout=PATIENCE_S)
    assert ended.status is {"undo": RunStatus.FAILED}.get(piece, RunStatus.SUCCEEDED)


def test_the_caller_of_a_run_is_told(flow: Flow) -> None:
    """X5: `flow.run` lets SystemExit through, as its caller may want to end; the run stays resumable."""

    @task(id="exits-called")
    def body() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        flow.run(body.options(run_id="called"))
    assert flow.handle("called").status() is RunStatus.PENDING
