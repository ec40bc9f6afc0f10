"""Types that a sequencer declares: checked when it runs, and held against each other by `validate`."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict, TypeVar

import attrs
import pytest

from flowkit import ConfigurationError, ValueMismatch, sequencer, step
from flowkit.conformance import assignable, either, item_of, mismatch, text_of
from flowkit_testing import Harness

T = TypeVar("T")


def numbered(*cases: tuple[object, ...]) -> list[Any]:
    """Cases that have no short text of their own."""
    return [pytest.param(*case, id=str(number)) for number, case in enumerate(cases)]


@attrs.frozen
class Item:
    """What is ordered."""

    name: str
    count: int = 1


@dataclass
class Order:
    """An order."""

    items: list[Item]


class Query(TypedDict):
    """A dict of known keys."""

    text: str
    limit: NotRequired[int]


class Colour(enum.Enum):
    """One of a few."""

    RED = 1


Id = NewType("Id", int)


@step
def total(order: Order) -> int:
    """A block."""
    return sum(item.count for item in order.items)


@step
def spell(number: int) -> str:
    """Another."""
    return str(number)


@step
def shout(text: str) -> str:
    """A third."""
    return text.upper()


class TestChecked:
    """When it runs."""

    def test_input(self, harness: Harness) -> None:
        """The error names the sequencer and the place in the value, and is not tried again."""
        chain = sequencer("types-in", input=Order).then(total)
        assert harness.run(chain, Order([Item("a", 3)])).output == 3

        error = harness.run(chain, Order([Item("a"), Item("b", "2")])).error  # type: ignore[arg-type]  # no number
        assert isinstance(error, ValueMismatch)
        assert isinstance(error, TypeError)
        assert str(error) == "the input of sequencer 'types-in': $.items[1].count is '2' (str), not int"

    def test_output(self, harness: Harness) -> None:
        """The error names the last block that gave the value as well."""
        chain: Any = sequencer("types-out", input=int, output=int).then(spell).tap(shout)
        assert str(harness.run(chain, 5).error) == (
            "the output of sequencer 'types-out', from block 'spell': $ is '5' (str), not int"
        )
        assert str(harness.run(sequencer("types-none", input=int, output=str), 5).error) == (
            "the output of sequencer 'types-none', from its input: $ is 5 (int), not str"
        )

    def test_output_however_it_ends(self, harness: Harness) -> None:
        """Also what `exit_if` ends with, and what a rescue gives."""
        early = sequencer("types-exit", input=int, output=str).exit_if(lambda n: n > 4).then(spell)
        assert harness.run(early, 1).output == "1"
        assert isinstance(harness.run(early, 5).error, ValueMismatch)

        @step
        def recover(_error: Exception) -> int:
            return 0

        rescued = sequencer("types-rescue", input=int, output=str).map(lambda n: [][n]).rescue(recover)
        assert isinstance(harness.run(rescued, 1).error, ValueMismatch)

    def test_returns(self, harness: Harness) -> None:
        """`returns` holds at its place, and at its end for whatever ends the chain."""
        chain = sequencer("types-returns", input=int).exit_if(lambda n: n > 4).then(spell).returns(str)
        assert harness.run(chain, 1).output == "1"
        assert isinstance(harness.run(chain, 5).error, ValueMismatch)
        longer = chain.map(len)
        assert harness.run(longer, 1).output == 1
        wrong = str(harness.run(sequencer("types-here", input=int).then(spell).returns(int).map(str), 1).error)
        assert wrong == "the value of sequencer 'types-here' at returns(int): $ is '1' (str), not int"

    def test_a_parent_can_rescue_it(self, harness: Harness) -> None:
        """It is an error like any other to the sequencer around it."""

        @step
        def recover(error: Exception) -> str:
            return type(error).__name__

        inner: Any = sequencer("types-inner", input=int).then(spell)
        chain = sequencer("types-outer", input=str).then(inner).rescue({ValueMismatch: recover})
        assert harness.run(chain, "five").output == "ValueMismatch"

    def test_connect_input(self, harness: Harness) -> None:
        """What comes in is reshaped before it is looked at."""
        chain = sequencer("types-connect", input=Order).then(total)

        def order(count: int) -> Order:
            return Order([Item("a", count)])

        connected = chain.connect_input(order)
        assert harness.run(connected, 7).output == 7
        assert harness.run(connected.connect_input(len), "four").output == 4
        assert harness.run(sequencer("types-around", input=int).then(connected), 3).output == 3

    def test_classes_of_a_function(self, harness: Harness) -> None:
        """Values of a class that only annotations can find survive being stored."""

        @attrs.frozen
        class Local:
            number: int

        @step
        def make(number: int) -> Local:
            return Local(number)

        @step
        def use(local: Local) -> Local:
            return local

        assert harness.run(sequencer("types-local").then(make).then(use), 4).output == Local(4)
        assert harness.run(sequencer("types-local-input", input=Local).then(use), Local(4)).output == Local(4)


class TestValidate:
    """Before anything runs."""

    def test_it_fits(self) -> None:
        """What fits, and what nobody knows, passes; the sequencer is given back."""
        chain = (
            sequencer("valid", input=Order, output=list[str])
            .then(total)
            .then_if(lambda n: n > 1, abs)
            .parallel({"a": spell, "b": (str, shout)})
            .map(lambda both: list(both.values()))
        )
        assert chain.validate() is chain

    @pytest.mark.parametrize(
        ("build", "message"),
        numbered(
            (lambda s: s.then(spell).then(spell), "'spell' takes int, but gets str"),
            (lambda s: s.then(shout), "'shout' takes str, but gets int"),
            (lambda s: s.tap(shout), "'shout' takes str"),
            (lambda s: s.work(shout), "'shout' takes str"),
            (lambda s: s.then_if(bool, shout), "'shout' takes str"),
            (lambda s: s.then_if(bool, spell).then(shout), r"'shout' takes str, but gets int \| str"),
            (lambda s: s.then(spell, shout).then(spell), "'spell' takes int"),
            (lambda s: s.then(shout, spell), "'shout' takes str.*'spell' takes int"),
            (lambda s: s.for_each(spell), None),
            (lambda s: s.then_all([spell]).for_each(spell), "'spell' takes int, but gets str"),
            (lambda s: s.parallel({"a": shout}), "'shout' takes str"),
            (lambda s: s.race([spell, shout]), "'shout' takes str"),
            (lambda s: s.then_any([spell]).then(spell), "'spell' takes int"),
            (lambda s: s.do_until(bool, spell), "'spell' takes int, but gets str"),
            (lambda s: s.branch({"a": (bool, shout)}), "'shout' takes str"),
            (lambda s: s.rescue(spell), None),
            (lambda s: s.rescue({KeyError: spell}), "'spell' takes int, but gets KeyError"),
            (lambda s: s.then_all([spell]).for_each_background(total), "'total' takes Order, but gets str"),
            (lambda s: s.then(sequencer("invalid-inner", input=str)), "'invalid-inner' takes str"),
            (lambda s: s.then(spell).returns(int), "'returns' takes int, but gets str"),
            (lambda s: s.then(spell).returns(str).then(spell), "'spell' takes int"),
        ),
    )
    def test_it_does_not(self, build: Callable[[Any], Any], message: str | None) -> None:
        """Each method tells what its block would get."""
        chain = build(sequencer("invalid", input=int))
        if message is None:
            chain.validate()
            return
        with pytest.raises(ConfigurationError, match=f"sequencer 'invalid': .*{message}"):
            chain.validate()

    def test_the_output(self) -> None:
        """What is declared as output is held against the end, and against ways out."""
        with pytest.raises(ConfigurationError, match="'the output' takes int, but gets str"):
            sequencer("invalid-out", input=int, output=int).then(spell).validate()
        with pytest.raises(ConfigurationError, match="'the output of an exit_if' takes str, but gets int"):
            sequencer("invalid-exit", input=int, output=str).exit_if(bool).then(spell).validate()


class TestConformance:
    """The rules behind both."""

    @pytest.mark.parametrize(
        ("value", "hint"),
        numbered(
            (1, int),
            (True, int),
            (1, float),
            (None, None),
            (None, int | None),
            ("a", Literal["a", "b"]),
            ([1], list[int]),
            ((1, "a"), tuple[int, str]),
            ((1, 2, 3), tuple[int, ...]),
            ({"a": [1]}, Mapping[str, Sequence[int]]),
            ({"text": "a"}, Query),
            ({1}, set[int]),
            (Colour.RED, Colour),
            (5, Id),
            (5, Annotated[int, "units"]),
            (5, T),
            (len, Callable[..., int]),
            (object(), Any),
        ),
    )
    def test_fits(self, value: object, hint: object) -> None:
        """It is of the type."""
        assert mismatch(value, hint) is None

    @pytest.mark.parametrize(
        ("value", "hint", "message"),
        numbered(
            ("1", int, "$ is '1' (str), not int"),
            (1, None, "$ is 1 (int), not None"),
            ("c", Literal["a", "b"], "$ is 'c' (str), not Literal['a', 'b']"),
            ([1, "2"], list[int], "$[1] is '2' (str), not int"),
            ((1,), tuple[int, str], "$ is (1,) (tuple), not a tuple of 2"),
            ((1, 2), tuple[int, str], "$[1] is 2 (int), not str"),
            ({"a": "b"}, dict[str, int], "$['a'] is 'b' (str), not int"),
            ({1: 1}, dict[str, int], "$.keys()[1] is 1 (int), not str"),
            ({}, Query, "$ is {} (dict), not Query, which has 'text'"),
            ({"text": "a", "x": 1}, Query, "$['x'] is 1 (int), not a key of Query"),
            ({"text": 1}, Query, "$['text'] is 1 (int), not str"),
            (5, Query, "$ is 5 (int), not Query"),
            ([{"a": "x"}], list[dict[str, int]] | None, "$[0]['a'] is 'x' (str), not int"),
            ("x", int | None, "$ is 'x' (str), not int | None"),
            ("y" * 99, int, f"$ is '{'y' * 59}... (str), not int"),
        ),
    )
    def test_fits_not(self, value: object, hint: object, message: str) -> None:
        """The message says where it is not, and what is there instead."""
        assert mismatch(value, hint) == message

    @pytest.mark.parametrize(
        ("given", "wanted"),
        numbered(
            (bool, int),
            (int, float),
            (int, Any),
            (Any, int),
            (int, int | None),
            (Literal[1], int),
            (list[int], Sequence[int]),
            (list[Any], list[int]),
            (dict[str, int], Mapping[str, int]),
            (Query, dict),
            (Query, Query),
            (list, list[int]),
            (T, int),
            (tuple[int, ...], tuple[int, ...]),
        ),
    )
    def test_assignable(self, given: object, wanted: object) -> None:
        """A value of the one is one of the other, or may be."""
        assert assignable(given, wanted)

    @pytest.mark.parametrize(
        ("given", "wanted"),
        numbered(
            (str, int),
            (int | None, int),
            (int, Literal[1]),
            (Literal["a"], int),
            (list[str], list[int]),
            (list[str], Sequence[int]),
            (dict[str, str], dict[str, int]),
            (Query, int),
            (dict, Query),
            (None, int),
        ),
    )
    def test_not_assignable(self, given: object, wanted: object) -> None:
        """Plainly not."""
        assert not assignable(given, wanted)

    def test_unions_and_items(self) -> None:
        """What a value of one of several types is, and what is in a collection."""
        assert either([int, str, int]) == int | str
        assert either([int, Any]) is Any
        assert either([]) is Any
        assert either(["later", "never"]) is Any
        assert item_of(list[int]) is int
        assert item_of(tuple[int, str]) == int | str
        assert item_of(dict[str, int]) is str
        assert item_of(int) is Any
        assert text_of(list[int]) == "list[int]"
        assert text_of("text") == "text"
