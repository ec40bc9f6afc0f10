"""Pictures: Mermaid as text, the documentation's diagrams, and where a run is in its chain."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowkit import sequencer, step
from flowkit.cli.chains import links_of, text_of
from flowkit.codec import JsonCodec
from flowkit.inspection import recorded_calls
from flowkit_testing import Harness

PAGE = Path(__file__).parents[2] / "docs" / "sequencer.md"


@step
def double(number: int) -> int:
    """A block."""
    return 2 * number


@step(attempts=1)
def fail(number: int) -> int:
    """A block that fails."""
    raise ValueError(number)


def over(number: int) -> bool:
    """A condition with a name."""
    return number > 3


class TestMermaid:
    """`to_mermaid()`."""

    def test_a_chain(self) -> None:
        """Each block is a node, in order, between the name and the end."""
        assert sequencer("drawn", input=int).then(double).then(lambda n: n, fail).to_mermaid() == (
            "flowchart TD\n"
            "    n0([drawn])\n"
            '    n1["double"]\n'
            "    n0 --> n1\n"
            '    n2["fail"]\n'
            "    n1 --> n2\n"
            "    n3([end])\n"
            "    n2 --> n3\n"
        )

    def test_names_of_pure_functions(self) -> None:
        """Conditions and connectors are named on their arrows."""
        drawn = sequencer("drawn-named", input=int).then(over, double).exit_if(over).map(over).to_mermaid()
        assert '-->|"over"| n1' in drawn
        assert '{"exit if over"}' in drawn
        assert '[/"map over"/]' in drawn

    def test_a_name_with_signs(self) -> None:
        """Signs that mean something to Mermaid are written so that they do not."""
        odd = double.options(name='a "b" <c>')
        assert '["a #quot;b#quot; #lt;c#gt;"]' in sequencer("drawn-odd", input=int).then(odd).to_mermaid()

    def test_arrows_lead_somewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The diagrams of the documentation are those of the code above them, and all their arrows have ends."""
        module = ModuleType("example")
        monkeypatch.setitem(__import__("sys").modules, "example", module)
        drawn = 0
        for language, text in re.findall(r"```(python|mermaid)\n(.*?)```", PAGE.read_text(), re.DOTALL):
            if language == "python":
                exec(text, vars(module))  # noqa: S102  # the page's own examples
                continue
            drawn += 1
            pipeline: Any = vars(module)["pipeline"]
            assert text == pipeline.to_mermaid()
            nodes = set(re.findall(r"^\s*(?:subgraph )?(n\d+)[(\[{]", text, re.MULTILINE))
            ends = set(re.findall(r"(n\d+)(?= -)|(?<= )(n\d+)$", text, re.MULTILINE))
            assert {end for pair in ends for end in pair if end} <= nodes
        assert drawn >= 20


class TestWhere:
    """What `flowkit runs show` draws."""

    def lines(self, harness: Harness, run_id: str) -> list[str]:
        """The chain of a run."""
        snapshot = harness.flow.engine.load(run_id)
        codec = JsonCodec()
        return [text_of(link) for link in links_of(codec, snapshot, recorded_calls(codec, snapshot))]

    def test_a_run_that_is_over(self, harness: Harness) -> None:
        """What is done, what failed, and what was never reached; what records nothing has no mark."""
        inner = sequencer("where-inner", input=int).then(double)
        chain = (
            sequencer("where", input=int)
            .then(double)
            .map(str)
            .map(int)
            .then(inner)
            .do_until(lambda n: n > 100, double)
            .then_all([double, double])
            .map(sum)
            .then(fail)
            .tap(double.options(name="after"))
        )
        run = harness.run(chain, 4)
        assert self.lines(harness, run.run_id) == [
            "  ✓ then double",
            "    map str",
            "    map int",
            "    then where-inner",
            "    ✓ then double",
            "  ✓ do_until double",
            "    then_all",
            "    ✓ double",
            "    ✓ double  3 times",
            "    map sum",
            "  ✗ then fail",
            "  · tap after",
        ]

    def test_a_run_under_way(self, harness: Harness) -> None:
        """Where it is now is the first block after the last that is done."""
        seen: list[list[str]] = []

        @step
        def look(number: int) -> int:
            seen.append(self.lines(harness, "run-1"))
            return number

        harness.run(sequencer("where-now", input=int).then(double).then(look).then(double), 4)
        assert seen == [["  ✓ then double", "  ▶ then look", "  · then double"]]

    def test_a_task(self, harness: Harness) -> None:
        """A run of a task has no chain."""
        run = harness.run(sequencer("where-empty", input=int), 4)
        assert self.lines(harness, run.run_id) == []
