"""The type of the value flows through a sequencer: for each method, held by mypy and pyright alike; nothing is run."""

from typing import Any, TypedDict, assert_type

import attrs

from flowkit import Flow, RunHandle, RunResult, Sequencer, sequencer, step, task


@step
def length(text: str) -> int:
    """A sync step."""
    return len(text)


@step
async def half(number: int) -> float:
    """An async step."""
    return number / 2


@task
def spell(number: int, *, loud: bool = False) -> str:
    """A task."""
    return str(number) + "!" * loud


@task
async def fetch(text: str) -> bytes:
    """An async task."""
    return text.encode()


def plain(number: int) -> list[str]:
    """A plain function."""
    return [str(number)]


async def awaited(number: int) -> set[int]:
    """An async one."""
    return {number}


@step
def recover(error: Exception) -> bool:
    """A handler."""
    return bool(error)


@step
def note(_thing: object) -> None:
    """A side effect."""


class Both(TypedDict):
    """Two results."""

    a: int
    b: int


@attrs.frozen
class Pair:
    """The same."""

    a: int
    b: int


begin = sequencer("typing", input=str)
number = begin.then(length)
listed = number.then(plain)


def blocks() -> None:
    """Blocks of every kind, with and without a connector."""
    assert_type(begin, Sequencer[str, str])
    assert_type(begin.then(length), Sequencer[str, int])
    assert_type(number.then(half), Sequencer[str, float])
    assert_type(number.then(spell), Sequencer[str, str])
    assert_type(begin.then(fetch), Sequencer[str, bytes])
    assert_type(number.then(plain), Sequencer[str, list[str]])
    assert_type(number.then(awaited), Sequencer[str, set[int]])
    assert_type(begin.then(number), Sequencer[str, int])
    assert_type(begin.then(lambda text: len(text), half), Sequencer[str, float])  # noqa: PLW0108  # a connector that is inferred
    assert_type(begin.then(length, plain), Sequencer[str, list[str]])
    assert_type(number.then(awaited, len), Sequencer[str, int])
    assert_type(number.then_if(lambda n: n > 1, spell), Sequencer[str, int | str])
    assert_type(number.then_if(lambda n: n > 1, half), Sequencer[str, int | float])
    assert_type(begin.then_if(bool, length, spell), Sequencer[str, str])
    assert_type(begin.map(lambda text: [text]), Sequencer[str, list[str]])
    assert_type(number.map(awaited), Sequencer[str, set[int]])
    assert_type(number.tap(note), Sequencer[str, int])
    assert_type(begin.tap(length, half), Sequencer[str, str])
    assert_type(number.tap_if(lambda n: n > 1, spell), Sequencer[str, int])
    assert_type(number.branch({"a": (bool, spell), "b": (bool, spell)}), Sequencer[str, str])
    assert_type(number.branch({"a": (bool, half)}), Sequencer[str, float])
    assert_type(number.branch({"a": (bool, spell), "b": (str, bool, length)}), Sequencer[str, Any])


def side_by_side() -> None:
    """Several blocks; blocks of several types give `Any`."""
    assert_type(number.parallel({"a": spell, "b": spell}), Sequencer[str, dict[str, str]])
    assert_type(number.parallel({"a": half}), Sequencer[str, dict[str, float]])
    assert_type(number.parallel({"a": spell, "b": (str, length)}), Sequencer[str, dict[str, Any]])
    assert_type(begin.parallel({"a": length, "b": length}, into=Both), Sequencer[str, Both])
    assert_type(begin.parallel({"a": length, "b": length}, into=Pair, max_concurrency=2), Sequencer[str, Pair])
    assert_type(number.then_all([spell, spell]), Sequencer[str, list[str]])
    assert_type(number.then_all([half]), Sequencer[str, list[float]])
    assert_type(number.then_all([half, (str, length)], max_concurrency=2), Sequencer[str, list[Any]])
    assert_type(number.then_any([spell, spell]), Sequencer[str, str])
    assert_type(number.then_any([half]), Sequencer[str, float])
    assert_type(number.race([spell, spell], max_concurrency=2), Sequencer[str, str])
    assert_type(number.race([half]), Sequencer[str, float])
    assert_type(listed.for_each(length), Sequencer[str, list[int]])
    assert_type(listed.for_each(fetch, max_concurrency=2), Sequencer[str, list[bytes]])
    assert_type(number.for_each(lambda n: range(n), spell), Sequencer[str, list[str]])  # noqa: PLW0108  # a connector that is inferred
    assert_type(number.for_each(lambda n: [n], half), Sequencer[str, list[float]])


def the_rest() -> None:
    """Loops, side chains, ways out, types."""
    assert_type(number.do_until(lambda n: n > 9, abs), Sequencer[str, int])
    assert_type(number.do_while(lambda n: n > 9, abs), Sequencer[str, int])
    assert_type(number.loop_back("length", when=lambda n: n > 9, max_iterations=3), Sequencer[str, int])
    assert_type(number.work(spell), Sequencer[str, int])
    assert_type(begin.work(length, half), Sequencer[str, str])
    assert_type(number.work_if(True, spell), Sequencer[str, int])  # noqa: FBT003  # as users write it
    assert_type(number.work_if(lambda n: n > 1, str, note), Sequencer[str, int])
    assert_type(listed.for_each_background(length), Sequencer[str, list[str]])
    assert_type(number.for_each_background(lambda n: [n], half, max_concurrency=2), Sequencer[str, int])
    assert_type(number.wait_for_work(fail_on_error=True, timeout="1m"), Sequencer[str, int])
    assert_type(number.rescue(recover), Sequencer[str, int | bool])
    assert_type(number.rescue({ValueError: recover}, default=recover), Sequencer[str, int | bool])
    assert_type(number.exit_if(lambda n: n > 9), Sequencer[str, int])
    assert_type(number.raise_if(lambda n: n > 9, ValueError("no")), Sequencer[str, int])
    assert_type(number.raise_if(lambda n: n > 9, lambda n: ValueError(n + 1)), Sequencer[str, int])
    assert_type(number.connect_input(spell), Sequencer[int, int])
    assert_type(number.connect_input(half).map(str), Sequencer[int, str])  # type: ignore[arg-type]  # it takes a str
    assert_type(number.returns(float), Sequencer[str, float])
    assert_type(number.validate(), Sequencer[str, int])
    assert_type(number.named("typing-too"), Sequencer[str, int])
    assert_type(number.options(key="k", attempts=3), Sequencer[str, int])
    assert_type(number.to_mermaid(), str)


def without_input() -> None:
    """Without `input=` the first method says what it takes."""
    assert_type(sequencer("typing-start").then(length), Sequencer[str, int])
    assert_type(sequencer("typing-start").then(half), Sequencer[int, float])
    assert_type(sequencer("typing-start").then(length, half), Sequencer[str, float])
    assert_type(sequencer("typing-start").map(length), Sequencer[str, int])
    assert_type(sequencer("typing-start").tap(length), Sequencer[str, str])
    assert_type(sequencer("typing-start").work(half), Sequencer[int, int])


async def runs(flow: Flow) -> None:
    """It is run like a task."""
    assert_type(flow.run(number, "a"), int)
    assert_type(await flow.aio.run(number, "a"), int)
    assert_type(number("a"), int)
    assert_type(await number.aio("a"), int)
    assert_type(number.trigger("a"), RunHandle[int])
    assert_type(await number.aio.trigger("a"), RunHandle[int])
    assert_type(flow.start(number, "a").wait_for_completion(), RunResult[int])


def refused(flow: Flow) -> None:
    """What both checkers must complain of: an ignore that is not needed is an error of its own."""
    begin.then(plain)  # type: ignore[arg-type]  # it takes an int
    number.then_if(lambda: True, spell)  # type: ignore[misc, arg-type]  # a condition gets the value
    number.do_until(bool, spell)  # type: ignore[arg-type]  # its result is no int
    number.loop_back("length", when=bool)  # type: ignore[call-arg]  # how often?
    flow.run(number, 5)  # type: ignore[arg-type]  # no text
