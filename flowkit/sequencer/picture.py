"""A sequencer drawn, as the text of a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from flowkit.conformance import text_of
from flowkit.sequencer.blocks import LAMBDA, Pure
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.ends import Check, ExitIf, RaiseIf, Rescue
from flowkit.sequencer.lines import ForEach, Parallel, Race, ThenAll, ThenAny
from flowkit.sequencer.loops import Do, LoopBack
from flowkit.sequencer.nodes import Node, Part
from flowkit.sequencer.side import Background, Nothing, WaitForWork, Work
from flowkit.sequencer.straight import Branch, Map, Tap, TapIf, Then, ThenIf


def mermaid(chain: Chain) -> str:
    """The text of a flowchart, for https://mermaid.js.org."""
    canvas = _Canvas()
    canvas.line("flowchart TD")
    start = canvas.node(chain.name, "([{}])")
    end = _draw_chain(canvas, chain, start)
    canvas.edge(end, canvas.node("end", "([{}])"))
    return "\n".join(canvas.lines) + "\n"


DIAMOND = '{{"{}"}}'


@define
class _Canvas:
    """The lines so far, and the number of the next node."""

    lines: list[str] = field(factory=list)
    count: int = 0
    depth: int = 0

    def line(self, text: str) -> None:
        """Write one line."""
        self.lines.append("    " * self.depth + text)
        if text.startswith(("flowchart", "subgraph")):
            self.depth += 1

    def node(self, label: str, shape: str = '["{}"]') -> str:
        """Write a node; returns its id."""
        name, self.count = f"n{self.count}", self.count + 1
        self.line(name + shape.format(_escaped(label)))
        return name

    def edge(self, source: str, target: str, label: str = "", arrow: str = "-->") -> None:
        """Write an arrow."""
        self.line(f'{source} {arrow}|"{_escaped(label)}"| {target}' if label else f"{source} {arrow} {target}")


def _escaped(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _draw_chain(canvas: _Canvas, chain: Chain, at: str) -> str:
    """Draw the nodes of a chain behind a node; returns the last one."""
    for connector in chain.before:
        at = _draw_node(canvas, connector, at, {})
    places: dict[int, str] = {}
    for place, node in enumerate(chain.nodes):
        before = at
        at = _draw_node(canvas, node, at, places)
        places[place] = _first_of(canvas, before, at)
    return at


def _first_of(canvas: _Canvas, before: str, at: str) -> str:
    """The node that an arrow back to a link goes to: the first that was drawn for it."""
    first = f"n{int(before[1:]) + 1}"
    return first if int(first[1:]) < canvas.count else at


def _draw_node(canvas: _Canvas, node: Node, at: str, places: dict[int, str]) -> str:
    match node:
        case Then(part=part):
            return _draw_part(canvas, part, at)
        case ThenIf(part=part, condition=condition):
            return _optional(canvas, part, at, f"if {_name(condition) or '...'}")
        case Map(fn=fn):
            drawn = canvas.node(f"map {_name(fn) or '...'}", '[/"{}"/]')
            canvas.edge(at, drawn)
            return drawn
        case Tap(part=part):
            return _aside(canvas, part, at, "tap")
        case TapIf(part=part, condition=condition):
            return _aside(canvas, part, at, f"tap if {_name(condition) or '...'}")
        case Branch() | Parallel() | ThenAll() | Race() | ThenAny():
            return _draw_fan(canvas, node, at)
        case ForEach(part=part):
            return _draw_part(canvas, part, at, "for each item")
        case Do(part=part, condition=condition, until=until):
            drawn = _draw_part(canvas, part, at)
            canvas.edge(
                drawn,
                _first_of(canvas, at, drawn),
                f"until {_name(condition)}" if until else f"while {_name(condition)}",
            )
            return drawn
        case LoopBack(target=target, condition=condition, max_iterations=most):
            canvas.edge(at, places[target], f"while {_name(condition) or '...'}, at most {most} times")
            return at
        case _:
            return _draw_rest(canvas, node, at)


def _draw_rest(canvas: _Canvas, node: Node, at: str) -> str:
    match node:
        case Work(part=part, condition=condition):
            label = "work" if condition is None else f"work if {_name(condition) or '...'}"
            _draw_part(canvas, part, at, label, "-.->")
            return at
        case Background(block=block, factory=factory):
            drawn = canvas.node(block.name if block is not None else _name(factory) or "a block")
            canvas.edge(at, drawn, "work for each item", "-.->")
            return at
        case Nothing():
            return at
        case WaitForWork():
            return _joint(canvas, at, "wait for work")
        case ExitIf(condition=condition) | RaiseIf(condition=condition):
            out = "exit" if isinstance(node, ExitIf) else "error"
            test = _joint(canvas, at, f"{out} if {_name(condition) or '...'}", DIAMOND)
            canvas.edge(test, canvas.node(out, "([{}])"), "yes")
            return test
        case Rescue():
            return _draw_rescue(canvas, node, at)
        case Check(hint=hint):
            return _joint(canvas, at, f"returns {text_of(hint)}")
        case _:
            return _joint(canvas, at, node.label)


def _draw_rescue(canvas: _Canvas, node: Rescue, at: str) -> str:
    joint = _joint(canvas, at, "rescue", DIAMOND)
    ways = [*((cls.__name__, block) for cls, block in node.cases), ("any other error", node.default)]
    ends = [_draw_part(canvas, Part(block), joint, label, "-.->") for label, block in ways if block is not None]
    after = canvas.node(" ", '("{}")')
    canvas.edge(joint, after, "no error")
    for end in ends:
        canvas.edge(end, after)
    return after


def _joint(canvas: _Canvas, at: str, label: str, shape: str = '("{}")') -> str:
    drawn = canvas.node(label, shape)
    canvas.edge(at, drawn)
    return drawn


def _draw_part(canvas: _Canvas, part: Part, at: str, label: str = "", arrow: str = "-->") -> str:
    labels = [label, _name(part.connector)]
    pipeline = part.block.pipeline
    if not isinstance(pipeline, Chain):
        drawn = canvas.node(part.block.name)
        canvas.edge(at, drawn, ": ".join(filter(None, labels)), arrow)
        return drawn
    number, canvas.count = canvas.count, canvas.count + 1
    canvas.line(f'subgraph n{number}["{_escaped(part.block.name)}"]')
    first = canvas.node(part.block.name, "([{}])")
    last = _draw_chain(canvas, pipeline, first)
    canvas.depth -= 1
    canvas.line("end")
    canvas.edge(at, first, ": ".join(filter(None, labels)), arrow)
    return last


def _optional(canvas: _Canvas, part: Part, at: str, test: str) -> str:
    asked = _joint(canvas, at, test, DIAMOND)
    drawn = _draw_part(canvas, part, asked, "yes")
    after = canvas.node(" ", '("{}")')
    canvas.edge(drawn, after)
    canvas.edge(asked, after, "no")
    return after


def _aside(canvas: _Canvas, part: Part, at: str, label: str) -> str:
    drawn = _draw_part(canvas, part, at, label)
    after = canvas.node(" ", '("{}")')
    canvas.edge(drawn, after)
    return after


def _draw_fan(canvas: _Canvas, node: Branch | Parallel | ThenAll | Race | ThenAny, at: str) -> str:
    fork = _joint(canvas, at, _TITLES[type(node)], DIAMOND)
    ends = [_draw_part(canvas, part, fork, label) for label, part in _ways(node)]
    after = canvas.node(" ", '("{}")')
    for end in ends:
        canvas.edge(end, after)
    return after


_TITLES: dict[type[Node], str] = {
    Branch: "branch",
    Parallel: "parallel",
    ThenAll: "then all",
    Race: "race",
    ThenAny: "then any",
}


def _ways(node: Branch | Parallel | ThenAll | Race | ThenAny) -> Iterable[tuple[str, Part]]:
    match node:
        case Branch(cases=cases):
            return [(case.name, Part(case.block, case.connector)) for case in cases]
        case Parallel(names=names, parts=parts):
            return list(zip(names, parts, strict=True))
        case ThenAny(parts=parts):
            return [(f"{number}.", part) for number, part in enumerate(parts, 1)]
        case _:
            return [("", part) for part in node.parts]


def _name(pure: Pure | None) -> str:
    return "" if pure is None or pure.name == LAMBDA else pure.name
