"""Records behave as attrs' own, though their methods are not generated."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  # nothing of it is stored: that a record can be copied is shown with it
from typing import cast

import attrs
import pytest

from flowkit.frozen import frozen, hot_record


def _loudly(value: object) -> str:
    return f"<{value}>"


@frozen
class Ours:
    """One of ours."""

    number: int
    name: str = attrs.field(default="a", repr=_loudly)
    secret: str = attrs.field(default="s", repr=False, eq=False)


@attrs.frozen
class Theirs:
    """The same, made by attrs."""

    number: int
    name: str = attrs.field(default="a", repr=_loudly)
    secret: str = attrs.field(default="s", repr=False, eq=False)


@hot_record
class Hot:
    """One that is made often."""

    number: int


def test_a_record_is_compared_hashed_and_shown_by_its_fields() -> None:
    """As attrs would do it: fields that are left out are left out, and another class is never equal."""
    assert Ours(1) == Ours(1, secret="t")  # noqa: S106  # no secret
    assert Ours(1) != Ours(2)
    assert Ours(1) != Ours(1, "b")
    assert Ours(1) != cast("object", Theirs(1))
    assert hash(Ours(1)) == hash(Ours(1, secret="t"))  # noqa: S106  # no secret
    assert len({Ours(1), Ours(1), Ours(2), Hot(1), Hot(1)}) == 3
    assert repr(Ours(1)) == repr(Theirs(1)).replace("Theirs", "Ours") == "Ours(number=1, name=<a>)"

    @frozen
    class Local:
        number: int

    assert repr(Local(1)) == "Local(number=1)"


def test_a_record_is_frozen_and_can_be_evolved_matched_and_copied() -> None:
    """What attrs gives its classes, a record has."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Ours(1).number = 2  # type: ignore[misc]  # that is the test
    assert attrs.evolve(Ours(1), name="b") == Ours(1, "b")
    match Ours(3):
        case Ours(number, name="a"):
            assert number == 3
        case _:
            pytest.fail("it does not match")
    assert copy.deepcopy(Ours(1)) == Ours(1)
    assert pickle.loads(pickle.dumps(Ours(1))) == Ours(1)  # noqa: S301  # as above
    assert not hasattr(Hot(1), "__dict__")
