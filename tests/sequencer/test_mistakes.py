"""Mistakes are found when a sequencer is built, and named with the sequencer, the method and the block."""

from collections.abc import Callable
from typing import Any, TypedDict

import attrs
import pytest

from flowkit import ConfigurationError, Flow, Sequencer, WrongColour, aio, sequencer, step, task
from flowkit_testing import Harness


@step
def double(number: int) -> int:
    """A block."""
    return 2 * number


@step
def two(left: int, right: int) -> int:
    """A step of two values."""
    return left + right


@task(id="mistake-nothing")
def nothing() -> None:
    """A task of no value."""


class OnlyA(TypedDict):
    """A dict with one key."""

    a: int


@attrs.frozen
class NeedsB:
    """A class with another."""

    b: int


Chain = Sequencer[int, Any]
Build = Callable[[Any], object]  # what is wrong is wrong for type checkers as well

MISTAKES: dict[str, tuple[Build, str]] = {
    "no block": (lambda s: s.then(5), r"'mistake'\.then: 5 is no block"),
    "no block at all": (lambda s: s.then(), r"\.then\(\): write \(\[connector,\] block\)"),
    "too many": (lambda s: s.then(abs, abs, double), r"write \(\[connector,\] block\)"),
    "a class": (lambda s: s.then(int), r"\.then takes a function, not <class 'int'>"),
    "a generator": (lambda s: s.then(lambda n: (yield n)), "cannot take a generator"),
    "a lambda": (lambda s: s.then(lambda n: n), r"a lambda has no name.*\.map\("),
    "a step of two": (lambda s: s.then(two), r"block 'two' takes \(left: int, right: int\), but .* one value"),
    "a task of none": (lambda s: s.tap(nothing), r"block 'mistake-nothing' takes \(\)"),
    "a connector of two": (lambda s: s.then(lambda a, _b: a, double), r"connector: '<lambda>' takes \(a, _b\)"),
    "a connector that is none": (lambda s: s.work(5, double), "connector: 5 is no function"),
    "a condition of two": (lambda s: s.then_if(lambda a, _b: a, double), r"condition: '<lambda>' takes \(a, _b\)"),
    "a condition of none": (lambda s: s.exit_if(lambda: True), r"exit_if: condition: '<lambda>' takes \(\)"),
    "a condition that is none": (lambda s: s.do_until(1, double), "condition: 1 is no function"),
    "a while that is none": (lambda s: s.do_while(None, double), "condition: None is no function"),
    "a test of a tap": (lambda s: s.tap_if(lambda: 1, double), "tap_if: condition"),
    "a test of work": (lambda s: s.work_if("yes", double), "work_if: condition: 'yes' is no function"),
    "a map of two": (lambda s: s.map(lambda a, _b: a), r"map: '<lambda>' takes \(a, _b\)"),
    "an unknown target": (
        lambda s: s.then(double).loop_back("triple", when=bool, max_iterations=2),
        r"loop_back\('triple'\): there is no block of that name above; there is 'double'",
    ),
    "a target below": (lambda s: s.loop_back("double", when=bool, max_iterations=2), "there is none with a name"),
    "a target twice": (
        lambda s: s.then(double).then(double).loop_back("double", when=bool, max_iterations=2),
        r"2 blocks above have that name.*options\(name=",
    ),
    "no iterations": (lambda s: s.then(double).loop_back("double", when=bool, max_iterations=0), "1 or more"),
    "iterations that are none": (lambda s: s.then(double).loop_back("double", when=bool, max_iterations=True), "True"),
    "no list": (lambda s: s.then_all(double), "write a list of blocks"),
    "an empty race": (lambda s: s.race([]), r"race\(\[\]\): an empty list can never succeed"),
    "an empty then_any": (lambda s: s.then_any([]), r"then_any\(\[\]\): an empty list"),
    "no dict": (lambda s: s.parallel([double]), "write a dict of names and blocks"),
    "a part of a dict": (lambda s: s.parallel({"a": 5}), r"parallel, 'a': 5 is no block"),
    "concurrency": (lambda s: s.then_all([double], max_concurrency=0), "1 or more"),
    "concurrency of a race": (lambda s: s.race([double], max_concurrency="a"), "1 or more"),
    "concurrency of work": (lambda s: s.for_each_background(double, max_concurrency=-1), "1 or more"),
    "into no class": (lambda s: s.parallel({"a": double}, into=5), r"into=5\): write a TypedDict"),
    "into without a part": (lambda s: s.parallel({"a": double}, into=NeedsB), "no block gives b"),
    "into with a part too many": (
        lambda s: s.parallel({"a": double, "c": double}, into=OnlyA),
        r"into=OnlyA\): it has no c",
    ),
    "no cases": (lambda s: s.branch({}), "write a dict"),
    "half a case": (lambda s: s.branch({"a": double}), r"branch, 'a': .* is neither \(condition, block\) nor"),
    "a case of one": (lambda s: s.branch({"a": (double,)}), "is neither"),
    "no error": (lambda s: s.raise_if(bool, "no"), "'no' is neither an Exception nor a function"),
    "no kind of error": (lambda s: s.rescue({int: double}), "<class 'int'> is no class of exceptions"),
    "nothing rescued": (lambda s: s.rescue({}), "rescues nothing"),
    "two for all errors": (lambda s: s.rescue(double, default=double), "either one block"),
    "no type": (lambda s: s.returns(5), r"returns\(5\): write a type"),
    "background of three": (lambda s: s.for_each_background(abs, abs, double), "block_or_factory"),
    "a key": (lambda s: s.then(sequencer("mistake-run", input=int).options(run_id="r")), r"heed options\(run_id="),
    "a timeout": (lambda s: s.wait_for_work(timeout="soon"), "soon"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_when_it_is_built(mistake: str) -> None:
    """The message names the sequencer, the method, what is wrong with it, and what to write."""
    build, message = MISTAKES[mistake]
    chain: Any = sequencer("mistake", input=int)
    with pytest.raises(ConfigurationError, match=message):
        build(chain)


def test_no_type_of_input() -> None:
    """What is declared is a type."""
    with pytest.raises(ConfigurationError, match=r"sequencer\('mistake-input'\): input\(5\): write a type"):
        sequencer("mistake-input", input=5)  # type: ignore[call-overload]  # no type


class TestColours:
    """Async as soon as one block, condition or connector is."""

    def test_called_plainly(self) -> None:
        """An async one cannot be; the message says what can."""

        async def test(_number: int) -> bool:
            return True

        async def connect(number: int) -> int:
            return number

        @step
        async def later(number: int) -> int:
            return number

        begin = sequencer("mistake-colour", input=int).then(double)
        with Flow("memory:"):
            assert begin(4) == 8
        for chain in (
            begin.exit_if(test),
            begin.then(connect, double),
            begin.map(connect),
            begin.connect_input(connect),
            begin.raise_if(lambda _: False, connect),
            begin.then(later),
            begin.rescue(later),
            begin.then_all([double, later]),
            begin.then(sequencer("mistake-inner", input=int).then(later)),
        ):
            assert chain.pipeline.is_async
            with pytest.raises(WrongColour, match=r"await mistake-colour\.aio"):
                chain(4)

    def test_in_tasks(self, harness: Harness) -> None:
        """The wrong colour inside a task names the right one."""

        @step
        async def later(number: int) -> int:
            return number

        plain = sequencer("mistake-plain", input=int).then(double)
        awaited = plain.named("mistake-awaited").then(later)

        @task(id="mistake-sync", attempts=1)
        def body(number: int) -> int:
            return awaited(number)

        @task(id="mistake-async", attempts=1)
        async def body_async(number: int) -> int:
            return plain(number)

        @task(id="mistake-right")
        async def body_right(number: int) -> tuple[int, ...]:
            return await aio.gather(plain.aio(number), awaited.bind(number))

        for wrong, name in ((body, "mistake-awaited"), (body_async, "mistake-plain")):
            error = harness.run(wrong, 4).error
            assert isinstance(error, WrongColour)
            assert f"await {name}.aio" in str(error)
        assert harness.run(body_right, 4).output == (8, 8)

    async def test_awaited(self, harness: Harness) -> None:
        """`.aio` and `flow.run` take either colour."""

        @step
        async def later(number: int) -> int:
            return number

        plain = sequencer("mistake-either", input=int).then(double)
        awaited = plain.named("mistake-either-async").then(later)
        assert await plain.aio(4) == await awaited.aio(4) == 8
        assert (await harness.aio.run(awaited, 4)).output == 8
        handle = await plain.aio.trigger(4)
        assert await handle.aio.result() == 8
