"""From what a user hands to a method to the node that it becomes, with every mistake found on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import attrs
import typing_extensions

from flowkit.durations import Duration, seconds
from flowkit.errors import ConfigurationError
from flowkit.fan_out import check_concurrency
from flowkit.functions import function_name, is_async_function
from flowkit.sequencer.blocks import Block, Pure, block_of, pure
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.ends import RaiseIf, Rescue
from flowkit.sequencer.lines import Parallel
from flowkit.sequencer.loops import LoopBack
from flowkit.sequencer.nodes import Node, Part
from flowkit.sequencer.side import Background, Nothing, WaitForWork, Work
from flowkit.sequencer.straight import Branch, Case

_WITH_CONNECTOR = 2


def where_of(chain: Chain, method: str) -> str:
    """The sequencer and the method, for error messages."""
    return f"sequencer {chain.name!r}.{method}"


def part_of(given: Sequence[object], where: str) -> Part:
    """`[conn,] block`, given by position."""
    if len(given) == _WITH_CONNECTOR:
        return Part(block_of(given[1], where), pure(given[0], f"{where}: connector"))
    if len(given) != 1:
        raise ConfigurationError(f"{where}({', '.join(map(repr, given))}): write ([connector,] block)")
    return Part(block_of(given[0], where))


def part_of_item(given: object, where: str) -> Part:
    """`block` or `(conn, block)`, given in a list or a dict."""
    return part_of(given if isinstance(given, tuple) else (given,), where)


def parts_of(given: object, where: str, *, at_least: int = 0) -> tuple[Part, ...]:
    """A list of blocks."""
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigurationError(f"{where}({given!r}): write a list of blocks")
    if len(given) < at_least:
        raise ConfigurationError(f"{where}([]): an empty list can never succeed; write at least one block")
    return tuple(part_of_item(item, where) for item in given)


def concurrency(most: int | None, where: str) -> int | None:
    """A limit, checked."""
    check_concurrency(where, most)
    return most


def condition_of(given: object, where: str) -> Pure:
    """A condition."""
    return pure(given, f"{where}: condition")


def parallel(given: object, most: int | None, into: Any, where: str) -> Parallel:  # noqa: ANN401  # a class
    """`parallel({...}, into=...)`."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigurationError(f"{where}({given!r}): write a dict of names and blocks")
    if into is not None:
        _require_fields(into, set(given), where)
    parts = tuple(part_of_item(item, f"{where}, {name!r}") for name, item in given.items())
    return Parallel(parts, concurrency(most, where), tuple(given), into)


def _require_fields(into: Any, names: set[str], where: str) -> None:  # noqa: ANN401  # a class
    """The results have to be all that the class needs, and nothing that it does not know."""
    if typing_extensions.is_typeddict(into):
        required, known = set(into.__required_keys__), {*into.__required_keys__, *into.__optional_keys__}
    elif isinstance(into, type) and (attrs.has(into) or hasattr(into, "__dataclass_fields__")):
        parameters = inspect.signature(into).parameters
        known = set(parameters)
        required = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    else:
        raise ConfigurationError(f"{where}(into={into!r}): write a TypedDict, an attrs class or a dataclass")
    if missing := required - names:
        raise ConfigurationError(f"{where}(into={into.__name__}): no block gives {', '.join(sorted(missing))}")
    if unknown := names - known:
        raise ConfigurationError(f"{where}(into={into.__name__}): it has no {', '.join(sorted(unknown))}")


def branch(given: object, where: str) -> Branch:
    """`branch({"name": (cond, block) or (conn, cond, block)})`."""
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError(f"{where}({given!r}): write a dict of names and (condition, block)")
    return Branch(where, tuple(_case(str(name), item, f"{where}, {name!r}") for name, item in given.items()))


def _case(name: str, given: object, where: str) -> Case:
    match given:
        case (condition, block):
            return Case(name, condition_of(condition, where), block_of(block, where), None)
        case (connector, condition, block):
            made = pure(connector, f"{where}: connector")
            return Case(name, condition_of(condition, where), block_of(block, where), made)
        case _:
            raise ConfigurationError(f"{where}: {given!r} is neither (condition, block) nor (conn, condition, block)")


def loop_back(chain: Chain, target: object, when: object, max_iterations: object, where: str) -> LoopBack:
    """`loop_back("block-name", when=cond, max_iterations=n)`."""
    places = chain.places(str(target))
    if not places:
        names = ", ".join(repr(node.name) for node in chain.nodes if node.name) or "none with a name"
        raise ConfigurationError(f"{where}({target!r}): there is no block of that name above; there is {names}")
    if len(places) > 1:
        raise ConfigurationError(
            f"{where}({target!r}): {len(places)} blocks above have that name; give the one that is meant another: "
            '.options(name="...")'
        )
    if not isinstance(max_iterations, int) or isinstance(max_iterations, bool) or max_iterations < 1:
        raise ConfigurationError(f"{where}(max_iterations={max_iterations!r}): write a whole number, 1 or more")
    return LoopBack(places[0], str(target), condition_of(when, where), max_iterations)


def work_if(given: object, rest: Sequence[object], where: str) -> Node:
    """`work_if(cond_or_bool, [conn,] block)`."""
    part = part_of(rest, where)
    if isinstance(given, bool):
        return Work(part) if given else Nothing(part.block)
    return Work(part, condition_of(given, where))


def background(given: Sequence[object], most: int, where: str) -> Background:
    """`for_each_background([conn,] block_or_factory)`."""
    if len(given) not in {1, _WITH_CONNECTOR}:
        raise ConfigurationError(f"{where}({', '.join(map(repr, given))}): write ([connector,] block_or_factory)")
    connector = pure(given[0], f"{where}: connector") if len(given) == _WITH_CONNECTOR else None
    last: Any = given[-1]
    limit = concurrency(most, where) or 1
    if _is_factory(last):
        chooses = Pure(lambda pair: last(*pair), is_async=is_async_function(last), name=function_name(last))
        return Background(where, None, chooses, connector, limit)
    return Background(where, block_of(last, where), None, connector, limit)


def _is_factory(given: object) -> bool:
    """A function of item and index; a step or task of two values would not do for a block either."""
    if not callable(given) or hasattr(given, "spec"):
        return False
    try:
        inspect.signature(given).bind(None, 0)
    except (TypeError, ValueError):
        return False
    return True


def wait_for_work(fail_on_error: object, timeout: Duration | None, where: str) -> WaitForWork:
    """`wait_for_work(fail_on_error=False, timeout=None)`."""
    return WaitForWork(bool(fail_on_error), None if timeout is None else seconds(timeout, f"{where}(timeout=...)"))


def rescue(given: object, default: object, where: str) -> Rescue:
    """`rescue(block)` or `rescue({ErrorType: block, ...}, default=block)`."""
    otherwise = None if default is None else block_of(default, f"{where}, default")
    if not isinstance(given, Mapping):
        if otherwise is not None:
            raise ConfigurationError(f"{where}: give either one block for all errors or a dict and a default")
        return Rescue((), block_of(given, where))
    cases: list[tuple[type[BaseException], Block]] = []
    for cls, block in given.items():
        for one in cls if isinstance(cls, tuple) else (cls,):
            if not isinstance(one, type) or not issubclass(one, Exception):
                raise ConfigurationError(f"{where}: {one!r} is no class of exceptions")
            cases.append((one, block_of(block, f"{where}, {one.__name__}")))
    if not cases and otherwise is None:
        raise ConfigurationError(f"{where}: it rescues nothing; name error types, or give a default")
    return Rescue(tuple(cases), otherwise)


def raise_if(condition: object, error: object, where: str) -> RaiseIf:
    """`raise_if(cond, error_or_factory)`."""
    test = condition_of(condition, where)
    if isinstance(error, Exception):
        return RaiseIf(test, error)
    if isinstance(error, type) and issubclass(error, Exception):
        made = error
        return RaiseIf(test, Pure(lambda _value: made(), is_async=False, name=error.__name__))
    if callable(error) and not isinstance(error, type):
        return RaiseIf(test, _factory(error, where))
    raise ConfigurationError(f"{where}: {error!r} is neither an Exception nor a function that makes one")


def _factory(error: Callable[..., Any], where: str) -> Pure:
    """A function that makes the error: of the value, or of nothing."""
    try:
        takes_none = not inspect.signature(error).parameters
    except (TypeError, ValueError):
        takes_none = False
    return pure((lambda _value: error()) if takes_none else error, f"{where}: error")


def hint_given(given: object, where: str) -> object:
    """A type that a user has declared."""
    if isinstance(given, type) or given is None or get_args(given) or typing_extensions.is_typeddict(given):
        return given
    if given is Any or hasattr(given, "__supertype__") or hasattr(given, "__value__"):
        return given
    raise ConfigurationError(f"{where}({given!r}): write a type")
