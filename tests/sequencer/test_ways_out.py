"""The ways out of a chain, and back: `rescue`, `exit_if`, `raise_if`."""

from typing import Any

import pytest

from flowkit import sequencer
from tests.sequencer.kit import Kit


class TestWaysOut:
    """`rescue`, `exit_if`, `raise_if`."""

    def test_rescue(self, kit: Kit) -> None:
        """The handler gets the error and gives the value; what stands between is left out."""

        @kit.colour.step
        def recover(error: Exception) -> int:
            return int(str(error)) + 1

        assert kit.run(kit.begin().then(kit.fail).then(kit.double).rescue(recover).then(kit.double)).output == 10
        assert kit.run(kit.begin().then(kit.double).rescue(recover)).output == 8

    def test_the_first_matching_type_wins(self, kit: Kit) -> None:
        """Types are looked at in order; what matches none goes to the default, or on."""

        @kit.colour.step
        def first(_error: Exception) -> str:
            return "first"

        @kit.colour.step
        def other(_error: Exception) -> str:
            return "other"

        failing = kit.begin().then(kit.fail)
        assert kit.run(failing.rescue({KeyError: other, Exception: first, ValueError: other})).output == "first"
        assert kit.run(failing.rescue({KeyError: other}, default=first)).output == "first"
        assert kit.run(failing.rescue({(KeyError, ValueError): first})).output == "first"  # type: ignore[dict-item]  # several at once
        assert isinstance(kit.run(failing.rescue({KeyError: other})).error, ValueError)
        assert kit.run(failing.rescue({KeyError: other}).rescue(first)).output == "first"

    def test_only_from_above(self, kit: Kit) -> None:
        """What fails below it goes on; also what the handler itself raises, but for a rescue below."""

        @kit.colour.step(attempts=1)
        def worse(_error: Exception) -> int:
            raise KeyError("worse")

        @kit.colour.step
        def recover(_error: Exception) -> int:
            return 0

        assert isinstance(kit.run(kit.begin().rescue(recover).then(kit.fail)).error, ValueError)
        assert isinstance(kit.run(kit.begin().then(kit.fail).rescue(worse)).error, KeyError)
        assert kit.run(kit.begin().then(kit.fail).rescue(worse).rescue(recover)).output == 0

    def test_a_pure_function_that_fails_is_rescued(self, kit: Kit) -> None:
        """An error of a connector, a condition or a map comes from above as well."""

        @kit.colour.step
        def recover(error: Exception) -> str:
            return type(error).__name__

        assert kit.run(kit.begin().map(lambda n: n / 0).rescue(recover)).output == "ZeroDivisionError"
        assert kit.run(kit.begin().then_if(lambda n: [][n], kit.double).rescue(recover)).output == "IndexError"

    def test_exit_if(self, kit: Kit) -> None:
        """The value so far is the outcome of this sequencer, not of the one around it."""
        inner = sequencer(f"exit-inner-{kit.colour.awaits}", input=int).exit_if(kit.pure(lambda n: n == 4))
        chain = kit.begin().then(inner.then(kit.fail)).then(kit.double)
        assert kit.run(chain).output == 8
        assert isinstance(kit.run(chain, 5).error, ValueError)

    @pytest.mark.parametrize(
        ("error", "wanted"),
        [
            (KeyError("no"), "no"),
            (KeyError, None),
            (lambda n: KeyError(f"not {n}"), "not 4"),
            (lambda: KeyError("none"), "none"),
        ],
        ids=["error", "class", "factory", "of nothing"],
    )
    def test_raise_if(self, kit: Kit, error: Any, wanted: str | None) -> None:  # noqa: ANN401  # all that is allowed
        """The error is raised, once: it is not tried again."""
        tries: list[int] = []

        def test(number: int) -> bool:
            tries.append(number)
            return number == 4

        chain = kit.begin().raise_if(test, error).then(kit.double)
        run = kit.run(chain)
        assert isinstance(run.error, KeyError)
        assert run.error.args == (() if wanted is None else (wanted,))
        assert len(tries) == 1
        assert kit.run(chain, 5).output == 10

    def test_raise_if_is_rescued(self, kit: Kit) -> None:
        """A rescue below takes it."""

        @kit.colour.step
        def recover(error: Exception) -> str:
            return str(error)

        chain = kit.begin().raise_if(lambda _: True, ValueError("no")).rescue(recover)
        assert kit.run(chain).output == "no"
        assert kit.run(chain).output == "no"

    def test_a_factory_that_makes_no_error(self, kit: Kit) -> None:
        """It is told so."""
        assert isinstance(kit.run(kit.begin().raise_if(lambda _: True, lambda _: "no")).error, TypeError)
