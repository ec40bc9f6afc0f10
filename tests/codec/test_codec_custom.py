"""The codec can be replaced and extended: bytes by subclassing, classes by hooks of cattrs."""

import zlib
from datetime import date
from pathlib import Path
from typing import Any, Never

import attrs
import pytest
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from flowkit.codec import Codec, Json, JsonCodec
from flowkit.codec.errors import error_from_json, error_to_json
from flowkit.errors import SerializationError


class Compressed(JsonCodec):
    """Compresses, and puts a mark in front of the bytes."""

    def dumps(self, document: Json) -> bytes:
        """The document, compressed."""
        return b"Z" + zlib.compress(super().dumps(document))

    def loads(self, data: bytes) -> Json:
        """The document that `dumps` was given."""
        if data[:1] != b"Z":
            raise SerializationError("the mark is missing")
        return super().loads(zlib.decompress(data[1:]))


class Money:
    """A class that has nothing to do with attrs or dataclasses."""

    def __init__(self, cents: int, since: date = date.min) -> None:
        self.cents = cents
        self.since = since

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.cents)


class Coin(Money):
    """Derives from a class that has hooks."""


@attrs.define
class Purse:
    """Contains what has hooks, named by an annotation and not."""

    money: Money
    more: list[Any]


class Shout(str):
    """A string that is more than a string."""

    __slots__ = ()


class Bag(list[int]):
    """A list that is more than a list."""


class Spot(Path):
    """A path that is more than a path."""

    _flavour = getattr(type(Path()), "_flavour", None)  # as 3.11 wants it


def converter_for_money() -> Converter:
    """A converter with hooks for `Money` and what derives from it."""
    converter = Converter()
    converter.register_unstructure_hook(Money, lambda money: (money.cents, money.since))
    converter.register_structure_hook(Money, lambda data, cls: cls(*data))
    return converter


def there_and_back(codec: Codec, value: object, hint: object = Any) -> object:
    """Through bytes and back."""
    return codec.from_json(codec.loads(codec.dumps(codec.to_json(value, hint))), hint)


def test_subclass_may_change_the_bytes() -> None:
    """Values and errors survive a codec that compresses (or encrypts), and foreign bytes are refused."""
    codec: Codec = Compressed()
    value = {"a": (1, {2}), "b": [date(2024, 1, 1)] * 100}
    assert codec.dumps(codec.to_json(value)).startswith(b"Z")
    assert there_and_back(codec, value) == value
    error = error_from_json(codec, codec.loads(codec.dumps(error_to_json(codec, KeyError("k", 1)))))
    assert (type(error), error.args) == (KeyError, ("k", 1))
    with pytest.raises(SerializationError, match="mark"):
        codec.loads(JsonCodec().dumps(1))


@pytest.mark.parametrize("hint", [Any, Money, Coin, list[Money], Money | None, Money | int, str])
def test_hooks_make_a_class_survive(hint: object) -> None:
    """A class with hooks comes back, named by the annotation or not, and so does what it is made of."""
    codec = JsonCodec(converter_for_money())
    for value in (Money(5, date(2024, 1, 1)), Coin(7), [Money(1), {"a": Coin(2)}], "no money", {Money(1): 2}):
        back = there_and_back(codec, value, hint)
        assert back == value
        assert type(back) is type(value)
    purse = Purse(Money(1), [Coin(2)])
    assert there_and_back(codec, purse) == there_and_back(codec, purse, Purse) == purse


def test_hooks_for_a_local_class_work_where_it_is_named() -> None:
    """Hooks do not make a class findable, its annotation does."""

    class Local:
        pass

    converter = Converter()
    converter.register_unstructure_hook(Local, lambda _: {"$": ()})
    converter.register_structure_hook(Local, lambda data, cls: cls() if data == {"$": ()} else None)
    codec = JsonCodec(converter)
    assert isinstance(there_and_back(codec, Local(), Local), Local)
    assert isinstance(there_and_back(codec, Local(), Local | int), Local)
    with pytest.raises(SerializationError, match="define the class at module level"):
        codec.to_json(Local())


def test_hooks_of_an_attrs_class_come_before_flowkits_own() -> None:
    """Hooks that are registered for a class decide its form."""
    converter = Converter()
    converter.register_unstructure_hook(Money, lambda money: money.cents)
    converter.register_structure_hook(Money, lambda data, _: Money(data))
    converter.register_unstructure_hook(Purse, make_dict_unstructure_fn(Purse, converter, money=override(rename="m")))
    converter.register_structure_hook(Purse, make_dict_structure_fn(Purse, converter, money=override(rename="m")))
    codec = JsonCodec(converter)
    assert codec.to_json(Purse(Money(1), []), Purse) == {"m": 1, "more": []}
    assert there_and_back(codec, Purse(Money(1), []), Purse) == Purse(Money(1), [])
    assert there_and_back(codec, Purse(Money(1), [])) == Purse(Money(1), [])
    assert there_and_back(codec, [Purse(Money(1), [])], list[Purse | int]) == [Purse(Money(1), [])]


def test_data_survives_new_hooks_and_their_end() -> None:
    """Tagged data that was written without a class's hooks is given to them, and the other way round."""
    plain = JsonCodec(converter_for_money())
    converter = converter_for_money()
    converter.register_unstructure_hook(Purse, lambda purse: {"money": purse.money, "more": purse.more})
    converter.register_structure_hook(Purse, lambda data, _: Purse(data["money"], data["more"]))
    hooked = JsonCodec(converter)
    purse = Purse(Money(1), [2])
    assert plain.from_json(hooked.to_json(purse)) == purse
    back = hooked.from_json(plain.to_json(Purse(3, [2])))  # type: ignore[arg-type]  # kept all the same
    assert isinstance(back, Purse)
    assert attrs.astuple(back) == (3, [2])


def test_hooks_by_predicate_work_for_plain_classes() -> None:
    """A factory that is registered with a predicate is asked about classes that flowkit does not know."""
    converter = Converter()
    converter.register_unstructure_hook_factory(lambda cls: cls is Money, lambda _: lambda money: money.cents)
    converter.register_structure_hook_factory(lambda cls: cls is Money, lambda _: lambda data, _: Money(data))
    assert there_and_back(JsonCodec(converter), [Money(3)]) == [Money(3)]


def test_half_a_hook_is_refused() -> None:
    """A class that can only be read is refused when it is written."""
    converter = Converter()
    converter.register_structure_hook(Money, lambda data, _: Money(data))
    with pytest.raises(SerializationError, match=r"^\$\[0\]: .*no unstructure hook"):
        JsonCodec(converter).to_json([Money(1)])


def test_broken_hook_is_a_serialization_error() -> None:
    """Whatever a hook raises, the value is refused in flowkit's way."""
    converter = Converter()
    converter.register_unstructure_hook(Money, lambda money: money.pounds)
    converter.register_structure_hook(Money, lambda data, _: Money(data))
    codec = JsonCodec(converter)
    with pytest.raises(SerializationError, match="pounds"):
        codec.to_json(Money(1))
    with pytest.raises(SerializationError, match="pounds"):
        codec.to_json(Money(1), Money)


@pytest.mark.parametrize("value", [Shout("a"), Bag([1]), Spot("a"), True.__class__, float.fromhex])
def test_cattrs_keeps_no_halves(value: object) -> None:
    """What cattrs would take for its builtin base, losing the class, is refused."""
    with pytest.raises(SerializationError, match="cannot be stored"):
        JsonCodec().to_json(value)
    with pytest.raises(SerializationError, match="cannot be stored"):
        JsonCodec().to_json(value, type(value))


def test_hooks_for_a_class_derived_from_a_builtin_one() -> None:
    """A user who registers hooks for such a class is believed."""
    converter = Converter()
    converter.register_unstructure_hook(Shout, str.__str__)
    converter.register_structure_hook(Shout, lambda data, _: Shout(data))
    converter.register_unstructure_hook(Bag, lambda bag: [*bag])
    converter.register_structure_hook(Bag, lambda data, _: Bag(data))
    codec = JsonCodec(converter)
    for value in (Shout("a"), Bag([1, 2])):
        assert type(there_and_back(codec, value)) is type(there_and_back(codec, value, type(value))) is type(value)


def test_converter_of_the_user_is_not_changed() -> None:
    """The codec works on a copy."""
    converter = converter_for_money()
    before = converter.unstructure({"a": (date.min, Money(1))}), converter.structure("3", int)
    JsonCodec(converter)
    assert before == (converter.unstructure({"a": (date.min, Money(1))}), converter.structure("3", int))


def test_hooks_may_refuse_in_flowkits_way() -> None:
    """A `SerializationError` of a hook is told as it is; what a hook made and nobody can store has no path."""
    converter = Converter()

    def refuse(_: Money) -> Never:
        raise SerializationError("money is not written down")

    converter.register_unstructure_hook(Money, refuse)
    converter.register_structure_hook(Money, lambda data, _: Money(data))
    with pytest.raises(SerializationError, match=r"^money is not written down$"):
        JsonCodec(converter).to_json([Money(1)])
    converter.register_unstructure_hook(Money, lambda _: [object()])
    with pytest.raises(SerializationError, match=r"^\$: object cannot be stored"):
        JsonCodec(converter).to_json([Money(1)])


def test_hooks_need_not_be_functions() -> None:
    """Any callable will do, hashable or not."""

    @attrs.define
    class Unstructure:
        def __call__(self, money: Money) -> int:
            return money.cents

    @attrs.define
    class Structure:
        def __call__(self, data: int, cls: type[Money]) -> Money:
            return cls(data)

    converter = Converter()
    converter.register_unstructure_hook(Money, Unstructure())
    converter.register_structure_hook(Money, Structure())
    assert there_and_back(JsonCodec(converter), [Money(3)]) == [Money(3)]
