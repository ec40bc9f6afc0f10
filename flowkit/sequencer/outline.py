"""The links of a chain in short: what a run carries of its sequencer, so that it can be drawn anywhere."""

from __future__ import annotations

from flowkit.codec import Json
from flowkit.sequencer.blocks import Pipeline
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.ends import Check, ExitIf, RaiseIf, Rescue
from flowkit.sequencer.lines import ForEach, Parallel, Race, ThenAll, ThenAny
from flowkit.sequencer.loops import LoopBack
from flowkit.sequencer.nodes import Node
from flowkit.sequencer.side import Nothing
from flowkit.sequencer.straight import Branch, Map, Tap, TapIf, Then, ThenIf


def outline(chain: Chain) -> Json:
    """The links of a chain, as its runs carry them: method, name, and the links of what is inside."""
    return [_link(node) for node in chain.nodes]


def _link(node: Node) -> Json:
    blocks = tuple(node.blocks())
    kind = _METHODS.get(type(node), node.kind)
    if len(blocks) == 1 and not isinstance(node, _FANS):
        return [kind, blocks[0].name, _inside(blocks[0].pipeline)]
    return [kind, node.name, [["", block.name, _inside(block.pipeline)] for block in blocks]]


def _inside(pipeline: Pipeline | None) -> Json:
    return outline(pipeline) if isinstance(pipeline, Chain) else []


_FANS = (Branch, Parallel, ThenAll, Race, ThenAny, Rescue)
_METHODS: dict[type[Node], str] = {
    Then: "then",
    ThenIf: "then_if",
    Map: "map",
    Tap: "tap",
    TapIf: "tap_if",
    Branch: "branch",
    Parallel: "parallel",
    ThenAll: "then_all",
    Race: "race",
    ThenAny: "then_any",
    ForEach: "for_each",
    LoopBack: "loop_back",
    ExitIf: "exit_if",
    RaiseIf: "raise_if",
    Rescue: "rescue",
    Check: "returns",
    Nothing: "work_if",
}
