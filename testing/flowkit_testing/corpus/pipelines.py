"""Sequencers of all shapes."""

from __future__ import annotations

from flowkit import NonRetryable, sequencer
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.sagas import book
from flowkit_testing.corpus.steps import add, add_later, broken, flaky


def increment(number: int) -> int:
    """A plain function, as a block."""
    return add(number, 1)


async def increment_later(number: int) -> int:
    """The same, awaited."""
    return await add_later(number, 1)


def rescued(_error: Exception) -> int:
    """What is gone on with after an error."""
    return 0


inner = sequencer("corpus-inner", input=int).then(increment).work(broken).then(increment)

straight = (
    sequencer("corpus-straight", input=int)
    .then(increment)
    .then_if(lambda n: n > 1, flaky)
    .map(lambda n: n + 1)
    .tap(inner)
    .then(inner)
    .branch({"never": (lambda n: n < 0, broken), "always": (bool, increment)})
)

looping = (
    sequencer("corpus-looping", input=int)
    .do_until(lambda n: n > 3, inner)  # noqa: PLR2004  # as good as any
    .then(increment)
    .loop_back("increment", when=lambda n: n < 8, max_iterations=5)  # noqa: PLR2004  # as good as any
    .do_while(lambda n: n < 9, increment)  # noqa: PLR2004  # as good as any
)

choosing = (
    sequencer("corpus-choosing", input=int)
    .then_any([broken, inner, increment])
    .race([broken, increment], max_concurrency=1)
    .parallel({"a": increment, "b": inner}, max_concurrency=1)
    .map(lambda both: sum(both.values()))
    .for_each(lambda n: [n, n + 1], increment, max_concurrency=1)
    .map(sum)
    .then(broken)
    .rescue({KeyError: broken}, default=rescued)
    .exit_if(lambda n: n == 0)
    .then(broken)
)

undone = (
    sequencer("corpus-pipeline-undone", input=str)
    .race([sequencer("corpus-loser", input=str).then(book).then(len, broken).map(str), book], max_concurrency=1)
    .then(book)
    .raise_if(bool, NonRetryable("no"))
)

later = (
    sequencer("corpus-later", input=int)
    .then(increment_later)
    .then_all([increment_later, increment, inner])
    .map(sum)
    .race([increment_later, increment_later], max_concurrency=1)
    .work(increment_later)
    .wait_for_work()
)

CASES = (
    Case(straight, (1,), racing=True),
    Case(looping, (1,), racing=True),
    Case(choosing, (1,), racing=True),
    Case(undone, ("flight",), fails=NonRetryable),
    Case(later, (1,), racing=True),
)
