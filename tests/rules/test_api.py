"""What api.md says of tasks, steps and handles, sentence by sentence."""

import asyncio
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    FlowkitError,
    OutsideRun,
    ResultTimeout,
    Retry,
    RunConflict,
    RunHandle,
    RunNotFound,
    RunResult,
    RunStatus,
    WrongColour,
    current_run,
    step,
    task,
)
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store


@attrs.frozen
class Order:
    """What the example of api.md orders."""

    id: str
    total: int


@attrs.frozen
class Payment:
    """What it pays."""

    id: str


@attrs.frozen
class Receipt:
    """What it gets."""

    order: str
    payment: str
    note: str


class TestExample:
    """The example at the top."""

    def test_it_works_as_it_is_written(self, store: Store) -> None:
        """api.md: the first example runs, in an async task with a sync, an async and an inline step."""

        @step
        def reserve(order: Order) -> str:
            return f"reservation of {order.id}"

        @step(
            retry=Retry(attempts=5, delay=0.2, backoff=2.0, max_delay=30, jitter=0.1, on=(ConnectionError,)), timeout=10
        )
        async def charge(order: Order, reservation: str) -> Payment:
            assert reservation
            return Payment(f"payment of {order.total}")

        def make_note(order: Order, payment: Payment) -> str:
            return f"{order.id}: {payment.id}"

        @task(id="rules-process-order", attempts=3)
        async def process_order(order: Order) -> Receipt:
            reservation = reserve(order)
            payment = await charge(order, reservation)
            note = step.run("note", make_note, order, payment)
            return Receipt(order.id, payment.id, note)

        receipt = Receipt("42", "payment of 5", "42: payment of 5")
        flow = store.flow()
        assert flow.run(process_order, Order("42", 5)) == receipt
        with Flow(store.storage()):
            handle = process_order.options(run_id="order-42", priority=5, tags=["vip"], expires="1d").trigger(
                Order("42", 5)
            )
            assert handle.result(timeout=30) == receipt


class TestCalling:
    """Calling tasks and steps."""

    def test_calling_a_task_runs_it_here(self, store: Store) -> None:
        """api.md: calling a task runs it durably, here, and returns its result, in either colour."""
        threads: list[threading.Thread] = []

        @task
        def body(number: int) -> int:
            threads.append(threading.current_thread())
            return number + 1

        @task
        async def async_body(number: int) -> int:
            threads.append(threading.current_thread())
            return number + 2

        flow = store.flow()
        assert body(1) == 2
        assert asyncio.run(_await(async_body(1))) == 3
        assert asyncio.run(_await(body.aio(1))) == 2
        assert threads[:2] == [threading.main_thread()] * 2
        assert len(flow.runs().runs) == 3

    def test_decorating_in_place(self, flow: Flow, colour: Colour) -> None:
        """api.md: `step(name="x", attempts=1)(fn)(*args)` decorates in place."""
        ran: list[int] = []

        def fn(number: int) -> int:
            ran.append(number)
            if number == 0:
                raise OSError("no")
            return number + 1

        @colour.task
        def body() -> Body[int]:
            first: int = yield colour.step(name="x", attempts=1)(fn)(1)
            yield colour.step(name="x", attempts=1)(fn)(0)
            return first

        with pytest.raises(OSError, match="no"):
            flow.run(body)
        assert ran == [1, 0]

    def test_any_callable_may_be_an_inline_step(self, flow: Flow) -> None:
        """api.md: `step.run` is an inline durable step around any function."""

        class Adder:
            def __init__(self, number: int) -> None:
                self.number = number

            def add(self, other: int) -> int:
                return self.number + other

            def __call__(self, other: int) -> int:
                return self.number * other

        async def later(number: int, *, more: int) -> int:
            return number + more

        @task
        async def body() -> list[int]:
            adder = Adder(5)
            return [
                step.run("builtin", sum, [1, 2]),
                step.run("lambda", lambda: 4),
                step.run("method", adder.add, 1),
                step.run("object", adder, 2),
                await step.run("coroutine function", later, 1, more=2),
                await step.aio.run("on a thread", adder.add, 3),
            ]

        assert flow.run(body) == [3, 4, 6, 10, 3, 8]

    def test_arguments_of_every_kind(self, flow: Flow, colour: Colour) -> None:
        """api.md: steps and tasks take positional, keyword, default and variable arguments."""

        @colour.step
        def effect(a: int, /, b: int, *args: int, c: int = 3, **kwargs: int) -> list[object]:
            return [a, b, list(args), c, kwargs]

        @colour.task
        def body(a: int, /, b: int = 2, *args: int, c: int, **kwargs: int) -> Body[list[object]]:
            result: list[object] = yield effect(a, b, *args, c=c, **kwargs)
            return result

        assert flow.run(body, 1, c=5) == [1, 2, [], 5, {}]
        assert flow.run(body, 1, 2, 3, 4, c=5, d=6) == [1, 2, [3, 4], 5, {"d": 6}]

    def test_wrong_arguments_are_a_type_error_at_once(self, flow: Flow, colour: Colour) -> None:
        """api.md: what does not fit the function's signature is refused where it is called, and nothing is stored."""

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            return number

        run: Any = flow.run
        start: Any = flow.start
        for call in (run, start):
            with pytest.raises(TypeError):
                call(body)
            with pytest.raises(TypeError):
                call(body, 1, 2)
            with pytest.raises(TypeError):
                call(body, other=1)
        assert flow.runs().runs == ()

    def test_a_function_keeps_its_name_and_docstring(self, colour: Colour) -> None:
        """api.md: what a decorator makes says what it is made of."""

        @colour.step
        def documented(order: str) -> str:
            """What it does."""
            return order

        @colour.task
        def documented_task() -> Body[None]:
            """What the task does."""
            yield from ()

        for made, name, doc in (
            (documented, "documented", "What it does."),
            (documented_task, "documented_task", "What the task does."),
        ):
            assert getattr(made, "__name__", None) == name
            assert made.__doc__ == doc
            assert name in repr(made)


async def _await(call: Any) -> Any:  # noqa: ANN401  # any awaitable
    return await call


class TestMethods:
    """Steps and tasks on classes."""

    def test_a_step_may_be_a_static_method(self, flow: Flow) -> None:
        """api.md: a step around a static function of a class is called as usual."""

        class Shop:
            @staticmethod
            @step
            def price(item: str) -> int:
                return len(item)

        @task
        def body() -> int:
            return int(Shop.price("book") + Shop().price("pen"))

        assert flow.run(body) == 7

    def test_a_step_may_be_a_method(self, flow: Flow) -> None:
        """api.md: a step around a method gets its object, as the function itself would."""

        class Shop:
            def __init__(self, rate: int) -> None:
                self.rate = rate

            @step
            def price(self, item: str) -> int:
                return self.rate * len(item)

        @task
        def body() -> int:
            return int(Shop(2).price("book"))

        assert flow.run(body) == 8


class TestIds:
    """Task ids."""

    def test_the_default_is_module_and_name(self) -> None:
        """api.md: a task's id is `module:name` unless it is given."""

        @task
        def named() -> None: ...

        @task(id="rules-given")
        def given() -> None: ...

        assert named.id.startswith(f"{__name__}:")
        assert named.id.endswith("named")
        assert given.id == "rules-given"

    def test_a_second_function_under_an_id_is_refused(self) -> None:
        """api.md: another function under the same id is an error when it is decorated, and names both."""

        @task(id="rules-taken")
        def first() -> None: ...

        with pytest.raises(ConfigurationError, match="rules-taken") as caught:

            @task(id="rules-taken")
            def second() -> None: ...

        assert "first" in str(caught.value)
        assert "second" in str(caught.value)

    def test_the_same_function_again_replaces_it(self, flow: Flow) -> None:
        """api.md: decorating a function of the same module and qualified name again replaces it."""

        def define(result: int) -> Any:  # noqa: ANN401  # a task
            @task(id="rules-reloaded")
            def reloaded() -> int:
                return result

            return reloaded

        old, new = define(1), define(2)

        assert flow.run(new) == 2
        handle = flow.start(old.options(run_id="r"))
        assert flow.run(new.options(run_id="r")) == 2
        assert handle.result() == 2

    def test_two_steps_may_share_a_name(self, flow: Flow, colour: Colour) -> None:
        """api.md: a step's name need not be unique."""
        one, two = colour.step(name="same")(lambda: 1), colour.step(name="same")(lambda: 2)

        @colour.task
        def body() -> Body[int]:
            first: int = yield one()
            second: int = yield two()
            return first * 10 + second

        assert flow.run(body) == 12

    @pytest.mark.parametrize("what", [5, None, "text", object()], ids=lambda what: type(what).__name__)
    def test_only_functions_are_decorated(self, what: Any) -> None:  # noqa: ANN401  # what is refused
        """api.md: decorating something that is no function is an error that says so."""
        with pytest.raises(ConfigurationError):
            step(name="x")(what)
        with pytest.raises(ConfigurationError):
            task(id="rules-no-function")(what)


class TestOptions:
    """`x.options(...)`."""

    def test_they_make_another_one(self, flow: Flow, colour: Colour) -> None:
        """api.md: `options` returns the same task with other options and leaves the original as it is."""

        @colour.task(tags=["a"])
        def body(number: int) -> Body[int]:
            yield from ()
            return number

        tagged = body.options(tags=["vip", "b"], run_id="r")
        assert type(tagged) is type(body)
        assert tagged.id == body.id
        flow.run(tagged, 1)
        flow.run(body, 2)

        assert [header.run_id for header in flow.runs(tag="vip").runs] == ["r"]
        assert len(flow.runs(tag="a").runs) in (1, 2)  # whether tags add up is not said
        assert len(flow.runs().runs) == 2

    def test_unknown_options_are_refused(self, colour: Colour) -> None:
        """api.md: an option that does not exist is an error where it is written."""

        @colour.step
        def effect() -> None: ...

        @colour.task
        def body() -> Body[None]:
            yield from ()

        for each in (effect, body):
            options: Any = each.options
            with pytest.raises(TypeError):
                options(colour="red")

    def test_a_delay_postpones_the_start(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """api.md: a run that was triggered with a delay does not begin before it is over."""
        began: list[int] = []

        @colour.task
        def body() -> Body[None]:
            yield from ()
            began.append(clock.ms)

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(body.options(delay="1h"))
            flow.start(body).result(timeout=PATIENCE_S)
            assert handle.status() is RunStatus.PENDING
        clock.advance(hours=1)
        with Flow(store.storage(), clock=clock) as flow:
            flow.handle(handle.id).result(timeout=PATIENCE_S)

        assert began == [start, start + 3_600_000]

    def test_higher_priority_goes_first(self, store: Store, colour: Colour) -> None:
        """api.md: of the runs that wait, those of higher priority begin first, older ones before younger ones."""
        ran: list[int] = []

        @colour.task
        def body(number: int) -> Body[None]:
            yield from ()
            ran.append(number)

        client = store.flow()
        handles = [
            client.start(body.options(priority=priority), number) for number, priority in enumerate([0, 5, -1, 5, 0])
        ]
        with Flow(store.storage(), concurrency=1):
            for handle in handles:
                handle.result(timeout=PATIENCE_S)

        assert ran == [1, 3, 0, 4, 2]

    def test_a_run_expires(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """api.md: a run that has not begun when it expires never does."""
        ran: list[str] = []

        @colour.task
        def body(name: str) -> Body[None]:
            yield from ()
            ran.append(name)

        client = store.flow(clock=clock)
        late = client.start(body.options(expires="1d"), "late")
        in_time = client.start(body.options(expires="3d"), "in time")
        clock.advance(days=2)
        with Flow(store.storage(), clock=clock) as flow:
            flow.handle(in_time.id).result(timeout=PATIENCE_S)
            with pytest.raises(flowkit.RunCancelled):
                flow.handle(late.id).result(timeout=PATIENCE_S)

        assert ran == ["in time"]

    def test_they_add_up(self, flow: Flow, colour: Colour) -> None:
        """api.md: options given one after the other all hold."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return current_run().id

        assert flow.run(body.options(tags=["x"]).options(run_id="r").options(priority=3)) == "r"
        (header,) = flow.runs(tag="x").runs
        assert (header.run_id, header.priority, header.tags) == ("r", 3, ("x",))


class TestOutside:
    """Outside a run."""

    def test_a_step_is_just_its_function(self) -> None:
        """api.md: outside a run a step is just its function: no retries, no storage, the same objects."""
        ran: list[str] = []
        held = object()

        @step(attempts=5, at_most_once=True, timeout=5)
        def effect(what: object) -> object:
            ran.append("effect")
            return what

        @step
        async def async_effect(what: object) -> object:
            ran.append("async")
            return what

        @step(attempts=5)
        def fail() -> None:
            ran.append("fail")
            raise OSError("no")

        assert effect(held) is held
        assert effect.options(key="k")(held) is held
        assert asyncio.run(_await(async_effect(held))) is held
        assert asyncio.run(_await(effect.aio(held))) is held
        assert step.run("inline", lambda: held) is held
        with pytest.raises(OSError, match="no") as caught:
            fail()
        assert not getattr(caught.value, "__notes__", [])
        assert ran == ["effect", "effect", "async", "effect", "fail"]

    def test_facts_are_real(self) -> None:
        """api.md: outside a run `now`, `uuid4` and `rng` are real, and `current_run` is a stand-in."""
        before = datetime.now(UTC)  # noqa: TID251  # what the real one is held against
        assert before - timedelta(seconds=1) <= flowkit.now() <= before + timedelta(minutes=5)
        assert flowkit.now().tzinfo is not None
        made = [flowkit.uuid4() for _ in range(3)]
        assert len(set(made)) == 3
        assert all(isinstance(each, uuid.UUID) for each in made)
        assert isinstance(flowkit.rng(), random.Random)
        assert flowkit.rng().random() != flowkit.rng().random()
        assert len({current_run().idempotency_key for _ in range(3)}) == 3
        assert current_run().attempt == 1
        assert flowkit.patched("new") is True

    @pytest.mark.parametrize("name", ["sleep", "sleep_until"])
    def test_timers_say_that_they_need_a_run(self, name: str) -> None:
        """api.md: outside a run a timer raises an error that says so, in both colours."""
        argument: Any = 1 if name == "sleep" else datetime(2030, 1, 1, tzinfo=UTC)

        with pytest.raises(OutsideRun, match=name):
            getattr(flowkit, name)(argument)
        with pytest.raises(OutsideRun, match=name):
            asyncio.run(_await(getattr(flowkit.aio, name)(argument)))

    def test_a_step_between_runs_is_outside(self, flow: Flow, colour: Colour) -> None:
        """api.md: when a run is over, the code after it is outside again."""

        @colour.step
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        assert flow.run(body.options(run_id="r")) == "r"
        with pytest.raises(OutsideRun):
            flowkit.sleep(0)


class TestColours:
    """The wrong colour."""

    def test_the_error_names_the_right_form(self, flow: Flow) -> None:
        """api.md: a timer that would block an async task is refused, with the form to use."""
        blocking: dict[str, Callable[[], object]] = {
            "flowkit.aio.sleep": lambda: flowkit.sleep(1),
            "flowkit.aio.sleep_until": lambda: flowkit.sleep_until(flowkit.now()),
        }
        for right, call in blocking.items():

            @task
            async def body(call: Callable[[], object] = call) -> None:
                call()

            with pytest.raises(WrongColour, match=right.removesuffix("_until").replace(".", r"\.")):
                flow.run(body)

    def test_an_async_call_in_a_sync_task(self, flow: Flow) -> None:
        """api.md: an async step called in a sync task is refused, rather than a coroutine that nobody awaits."""

        @step
        async def effect() -> int:
            return 1

        @task
        async def child() -> int:
            return 1

        @task
        def calls_step() -> object:
            return effect()

        @task
        def calls_child() -> object:
            return child()

        @task
        def calls_sleep() -> object:
            return flowkit.aio.sleep(1)

        for body in (calls_step, calls_child, calls_sleep):
            with pytest.raises(WrongColour):
                flow.run(body)

    def test_run_refuses_to_block_an_event_loop_or_works(self, store: Store) -> None:
        """api.md: inside a running event loop `await flow.aio.run(...)` runs tasks of both colours."""
        flow = store.flow()

        @task
        def plain(number: int) -> int:
            return number

        @task
        async def awaited(number: int) -> int:
            return number

        async def main() -> list[int]:
            return [
                await flow.aio.run(plain, 1),
                await flow.aio.run(awaited, 2),
                *await asyncio.gather(*(flow.aio.run(awaited, number) for number in (3, 4))),
                await awaited(5),
                await plain.aio(6),
            ]

        assert asyncio.run(main()) == [1, 2, 3, 4, 5, 6]

    def test_a_sync_step_plainly_in_an_async_task(self, flow: Flow) -> None:
        """api.md: a sync step called plainly in an async task runs on its thread, through `.aio` on another."""
        threads: list[threading.Thread] = []

        @step
        def effect() -> None:
            threads.append(threading.current_thread())

        @task
        async def body() -> threading.Thread | None:
            effect()
            await effect.aio()
            threads.append(threading.current_thread())
            return None

        flow.run(body)

        assert threads[0] is threads[2]
        assert threads[1] is not threads[0]

    def test_sync_steps_side_by_side(self, flow: Flow) -> None:
        """api.md: sync steps through `.aio` run at the same time, on threads."""
        barrier = threading.Barrier(3, timeout=PATIENCE_S)

        @step
        def effect(number: int) -> int:
            barrier.wait()
            return number

        @task
        async def body() -> list[int]:
            return list(await asyncio.gather(*(effect.aio(number) for number in range(3))))

        assert flow.run(body) == [0, 1, 2]

    def test_a_sync_task_with_an_event_loop_of_its_own(self, flow: Flow) -> None:
        """api.md: a sync step may use asyncio inside itself."""

        @step
        def effect() -> int:
            return int(asyncio.run(_await(asyncio.sleep(0, 5))))

        @task
        def body() -> int:
            return effect()

        assert flow.run(body) == 5


class TestHandles:
    """What `trigger` and `start` give."""

    def test_a_handle_knows_its_run(self, store: Store, colour: Colour) -> None:
        """api.md: a handle has an id, a status that is a text, and the result."""

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            return number

        client = store.flow()
        handle = client.start(body, 5)
        assert isinstance(handle, RunHandle)
        assert handle.status() == "pending"
        assert client.handle(handle.id).status() is RunStatus.PENDING
        with Flow(store.storage()):
            assert handle.result(timeout="1m") == 5
            assert handle.result() == 5
            result = handle.wait_for_completion(timeout=timedelta(minutes=1))
        assert isinstance(result, RunResult)
        assert (result.ok, result.output, result.error, result.status, result.run_id, result.unwrap()) == (
            True,
            5,
            None,
            RunStatus.SUCCEEDED,
            handle.id,
            5,
        )

    def test_result_raises_what_the_run_raised(self, store: Store, colour: Colour) -> None:
        """api.md: `result` raises the run's error; `wait_for_completion` tells of it and does not."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            raise ValueError("no", 5)

        with Flow(store.storage()) as flow:
            handle = flow.start(body)
            with pytest.raises(ValueError, match="no"):
                handle.result(timeout=PATIENCE_S)
            result = handle.wait_for_completion()
            assert (result.ok, result.output, result.status) == (False, None, RunStatus.FAILED)
            assert isinstance(result.error, ValueError)
            assert result.error.args == ("no", 5)
            with pytest.raises(ValueError, match="no"):
                result.unwrap()

    @pytest.mark.parametrize("timeout", [0, 0.01, "1ms", timedelta(milliseconds=1)], ids=str)
    def test_a_result_that_does_not_come_in_time(self, flow: Flow, colour: Colour, timeout: Any) -> None:  # noqa: ANN401
        """api.md: `ResultTimeout`, a `TimeoutError`, when the run is not finished in time; the run goes on."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        handle = flow.start(body.options(run_id="r"))
        for wait in (handle.result, handle.wait_for_completion):
            with pytest.raises(ResultTimeout) as caught:
                wait(timeout=timeout)
            assert isinstance(caught.value, TimeoutError)
        assert flow.run(body.options(run_id="r")) == "done"
        assert handle.result(timeout=0) == "done"

    def test_an_unknown_run(self, flow: Flow) -> None:
        """api.md: a handle of a run that nobody knows says so when it is asked."""
        handle = flow.handle("nobody")
        for ask in (handle.status, handle.result, handle.wait_for_completion, handle.cancel):
            with pytest.raises(RunNotFound, match="nobody"):
                ask()

    def test_awaitable_handles(self, store: Store, colour: Colour) -> None:
        """api.md: a handle's `.aio` is the same thing, awaitable."""

        @colour.task(attempts=1)
        def body(number: int) -> Body[int]:
            yield from ()
            if number < 0:
                raise ValueError("no")
            return number

        async def main(flow: Flow) -> None:
            handle = await body.aio.trigger(5)
            assert await handle.aio.result(timeout=PATIENCE_S) == 5
            assert await handle.aio.status() is RunStatus.SUCCEEDED
            assert (await handle.aio.wait_for_completion()).unwrap() == 5
            assert await handle.aio.cancel() is False
            failed = await flow.aio.start(body, -1)
            with pytest.raises(ValueError, match="no"):
                await failed.aio.result(timeout=PATIENCE_S)
            pending = await flow.aio.start(body.options(delay="1d"), 1)
            with pytest.raises(ResultTimeout):
                await pending.aio.result(timeout=0.01)
            assert await flow.aio.cancel(pending.id) is True

        with Flow(store.storage()) as flow:
            asyncio.run(main(flow))

    def test_waiters_do_not_hold_each_other_up(self, store: Store, colour: Colour, aside: Executor) -> None:
        """api.md: several callers may wait for one run, in threads and coroutines, and all get its result."""
        go_on = threading.Event()

        @colour.step
        def effect() -> str:
            go_on.wait(PATIENCE_S)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        with Flow(store.storage()) as flow:
            handle = flow.start(body)
            waiting = [aside.submit(handle.result, PATIENCE_S) for _ in range(3)]

            async def main() -> list[str]:
                calls = [asyncio.create_task(handle.aio.result(PATIENCE_S)) for _ in range(3)]
                await asyncio.sleep(0)
                go_on.set()
                return list(await asyncio.gather(*calls))

            assert asyncio.run(main()) == ["done"] * 3
            assert [each.result(PATIENCE_S) for each in waiting] == ["done"] * 3


class TestRunIds:
    """A run id given twice."""

    def test_it_is_one_run(self, flow: Flow, colour: Colour) -> None:
        """api.md: the second caller gets the result, however it asks."""
        ran: list[int] = []

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            ran.append(number)
            return number + 1

        once = body.options(run_id="r")
        assert flow.run(once, 1) == 2
        assert flow.run(once, 1) == 2
        assert flow.run(once, number=1) == 2  # the same arguments, said otherwise
        assert flow.start(once, 1).result(timeout=PATIENCE_S) == 2
        assert ran == [1]
        assert len(flow.runs().runs) == 1

    def test_the_second_caller_gets_the_error(self, flow: Flow, colour: Colour) -> None:
        """api.md: the second caller gets the error, and the run is not tried again."""
        ran: list[str] = []

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise ValueError("no", 5)

        for _ in range(3):
            with pytest.raises(ValueError, match="no") as caught:
                flow.run(body.options(run_id="r"))
            assert caught.value.args == ("no", 5)
        assert ran == ["body"]

    def test_the_second_caller_joins(self, store: Store, colour: Colour, aside: Executor) -> None:
        """api.md: callers that come while it runs, from this process or another, wait for the same run."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step
        def effect() -> str:
            ran.append("effect")
            begun.set()
            go_on.wait(PATIENCE_S)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        once = body.options(run_id="r")
        flow, other = store.flow(), store.flow()
        callers = [aside.submit(flow.run, once)]
        assert begun.wait(PATIENCE_S)
        callers += [aside.submit(each.run, once) for each in (flow, other)]
        handle = other.start(once)
        assert handle.status() is RunStatus.RUNNING
        go_on.set()

        assert [each.result(PATIENCE_S) for each in callers] == ["done"] * 3
        assert handle.result(timeout=PATIENCE_S) == "done"
        assert ran == ["effect"]

    def test_it_resumes_after_a_crash(self, store: Store, colour: Colour) -> None:
        """api.md: the second caller resumes a run whose process died."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            return name

        @colour.task
        def body() -> Body[str]:
            a: str = yield effect("a")
            if crashes:
                raise crashes.pop()
            b: str = yield effect("b")
            return a + b

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()

        assert store.flow().run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b"]

    def test_other_arguments_are_a_conflict(self, store: Store, colour: Colour) -> None:
        """api.md: other arguments, or another task, under the same id raise `RunConflict`, and change nothing."""

        @colour.task
        def body(number: int, *, more: int = 0) -> Body[int]:
            yield from ()
            return number + more

        @colour.task
        def other(number: int) -> Body[int]:
            yield from ()
            return number

        flow = store.flow()
        assert flow.run(body.options(run_id="r"), 1) == 1
        before = store.header("r")
        conflicts: list[Callable[[], object]] = [
            lambda: flow.run(body.options(run_id="r"), 2),
            lambda: flow.run(body.options(run_id="r"), 1, more=1),
            lambda: flow.run(other.options(run_id="r"), 1),
            lambda: flow.start(body.options(run_id="r"), 2),
            lambda: flow.start(other.options(run_id="r"), 1),
        ]
        for conflict in conflicts:
            with pytest.raises(RunConflict, match="r"):
                conflict()

        assert flow.run(body.options(run_id="r"), 1, more=0) == 1  # a default spelled out is no other argument
        assert store.header("r") == before

    @pytest.mark.parametrize("run_id", ["with spaces and ünïcode", "a/b", "../etc/passwd", "x" * 200, "0", "a:b#c%00"])
    def test_any_text_is_an_id(self, flow: Flow, colour: Colour, run_id: str) -> None:
        """api.md: a run id is the user's own text, whatever it is."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return current_run().id

        assert flow.run(body.options(run_id=run_id)) == run_id
        assert flow.handle(run_id).result() == run_id
        assert [header.run_id for header in flow.runs().runs] == [run_id]

    def test_an_id_that_is_no_text_is_refused(self, colour: Colour) -> None:
        """api.md: an empty run id, or one that is no text, is refused where it is written."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        options: Any = body.options
        for run_id in ("", 5, b"r"):
            with pytest.raises(FlowkitError):
                options(run_id=run_id)


class TestCurrentRun:
    """`current_run()`."""

    def test_the_key_is_stable(self, store: Store, colour: Colour) -> None:
        """api.md: a step's key is the same across retries and machines, and another one for each call and run."""
        keys: dict[str, list[str]] = {"a": [], "b": []}
        crashes = [Crash()]

        @colour.step(retry=Retry(attempts=3, delay=0))
        def effect(name: str) -> None:
            keys[name].append(current_run().idempotency_key)
            if len(keys[name]) == 1:
                raise OSError("once")
            if len(keys[name]) == 2 and name == "b" and crashes:
                raise crashes.pop()

        @colour.task
        def body() -> Body[None]:
            yield effect("a")
            yield effect("b")

        first = store.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()
        store.flow().run(body.options(run_id="r"))

        assert len(keys["b"]) == 3
        assert len(set(keys["a"])) == len(set(keys["b"])) == 1
        assert keys["a"][0] != keys["b"][0]
        store.flow().run(body.options(run_id="other"))
        assert len({keys["a"][0], keys["a"][-1], keys["b"][0], keys["b"][-1]}) == 4

    def test_it_is_known_on_threads(self, flow: Flow) -> None:
        """api.md: a sync step that runs on a thread for an async task knows its run."""

        @step
        def effect() -> str:
            return current_run().id

        @step(timeout=PATIENCE_S)
        def timed() -> str:
            return current_run().id

        @task
        async def body() -> list[str]:
            return [await effect.aio(), await timed.aio(), timed(), current_run().id]

        assert flow.run(body.options(run_id="r")) == ["r"] * 4

    def test_runs_side_by_side_do_not_mix(self, store: Store, colour: Colour) -> None:
        """api.md: each of many runs at a time knows itself."""

        @colour.step
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[tuple[str, str]]:
            inner: str = yield effect()
            return current_run().id, inner

        with Flow(store.storage(), concurrency=10) as flow:
            handles = [flow.start(body.options(run_id=f"r{number}")) for number in range(30)]
            for handle in handles:
                assert handle.result(timeout=PATIENCE_S) == (handle.id, handle.id)


def test_errors_are_one_tree() -> None:
    """api.md: all errors are `FlowkitError`s; timeouts are `TimeoutError`s too, groups `ExceptionGroup`s."""
    errors = [
        each
        for each in map(flowkit.__dict__.get, flowkit.__all__)
        if isinstance(each, type) and issubclass(each, Exception)
    ]
    for each in errors:
        assert issubclass(each, FlowkitError | Warning)
        if each.__name__.endswith("Timeout"):
            assert issubclass(each, TimeoutError)
    for name in ("AllFailed", "CompensationFailed"):
        assert issubclass(flowkit.__dict__[name], ExceptionGroup)
    wanted = {
        *("RunBlocked", "NonDeterminismError", "RunConflict", "RunCancelled", "RunNotFound", "RunFinished"),
        *("RunRolledBack", "ResultTimeout", "StepTimeout", "EventTimeout", "StepInterrupted", "StepError"),
        *("NotAllowedInStep", "AllFailed", "NoBranch", "CompensationFailed", "LeaseLost", "SerializationError"),
        *("StorageError", "StorageNotDurable", "ConfigurationError", "WrongColour", "NonRetryable", "FlowkitError"),
    }
    assert wanted <= {each.__name__ for each in errors}
    assert issubclass(flowkit.NonDeterminismError, flowkit.RunBlocked)
