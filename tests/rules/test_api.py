"""What api.md says of tasks and steps, sentence by sentence."""

import asyncio
import threading
from typing import Any

import attrs
import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    FlowkitError,
    Retry,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Store


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
        assert flow.run(body, 1, c=5, self=6, spec=7) == [1, 2, [], 5, {"self": 6, "spec": 7}]

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
            shop: Any = Shop()  # mypy takes a static step of an instance for a bound one
            return int(Shop.price("book") + shop.price("pen"))

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
