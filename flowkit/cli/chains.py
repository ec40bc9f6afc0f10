"""Where a run of a sequencer is: its links, with a mark for what is done, under way, and still to come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from flowkit.codec import Codec, Json
from flowkit.documents import decode_input
from flowkit.entries import Phase
from flowkit.errors import SerializationError
from flowkit.frozen import frozen
from flowkit.inspection import RecordedCall
from flowkit.records import Snapshot

_QUIET = frozenset({"map", "loop_back", "exit_if", "raise_if", "returns", "wait_for_work"})  # which record nothing
_NOT_ALONE = 2


@frozen
class Link:
    """One link of the chain, as far as the run has come."""

    depth: int
    method: str
    name: str
    state: str  # "done", "failed", "under way", "to come", or "" where nothing is recorded
    times: int = 0  # how often its block has been called


def links_of(codec: Codec, snapshot: Snapshot, calls: Sequence[RecordedCall]) -> list[Link]:
    """The links of the run's sequencer; empty if it is a run of a task."""
    try:
        outline = decode_input(codec, snapshot.input).outline
    except SerializationError:
        return []
    flat = list(_flat(outline, 0))
    by_name: dict[str, deque[RecordedCall]] = {}
    for call in calls:
        by_name.setdefault(call.name, deque()).append(call)
    left = {name: sum(1 for _, _, other, _ in flat if other == name) for _, _, name, _ in flat}
    links = []
    for depth, method, name, inside in flat:
        left[name] -= 1
        mine = [] if inside or method in _QUIET else _take(by_name.get(name, deque()), last=left[name] == 0)
        links.append(Link(depth, method, name, _state(mine, quiet=inside or method in _QUIET or not name), len(mine)))
    return links if snapshot.result is not None else _with_place(links)


def _flat(outline: Json, depth: int) -> Iterator[tuple[int, str, str, bool]]:
    """Each link with its depth, method and name, and whether it is made of others."""
    if not isinstance(outline, list):
        return
    for link in outline:
        if isinstance(link, list):
            method, name, inside = link
            yield depth, str(method), str(name), bool(inside)
            yield from _flat(inside, depth + 1)


def _take(calls: deque[RecordedCall], *, last: bool) -> list[RecordedCall]:
    """One call for each link of that name; the last link gets all that are left, as a loop's does."""
    taken = list(calls) if last else list(calls)[:1]
    for _ in taken:
        calls.popleft()
    return taken


def _state(calls: Sequence[RecordedCall], *, quiet: bool) -> str:
    if not calls:
        return "" if quiet else "to come"
    match calls[-1].phase:
        case Phase.DONE:
            return "done"
        case Phase.FAILED | Phase.CANCELLED:
            return "failed"
        case _:
            return "under way"


def _with_place(links: list[Link]) -> list[Link]:
    """A step leaves nothing behind before it has ended: the first to come after the last that is done is under way."""
    begun = [place for place, link in enumerate(links) if link.state in {"done", "failed", "under way"}]
    if begun and links[begun[-1]].state == "under way":
        return links
    after = begun[-1] + 1 if begun else 0
    for place in range(after, len(links)):
        link = links[place]
        if link.state == "to come":
            return [*links[:place], Link(link.depth, link.method, link.name, "under way"), *links[place + 1 :]]
    return links


_MARKS = {"done": "✓", "failed": "✗", "under way": "▶", "to come": "·", "": " "}
STYLES = {"done": "green", "failed": "red", "under way": "cyan", "to come": "dim", "": "dim"}


def text_of(link: Link) -> str:
    """The link as a line."""
    times = f"  {link.times} times" if link.times >= _NOT_ALONE else ""
    words = " ".join(filter(None, (link.method, link.name)))
    return f"  {'  ' * link.depth}{_MARKS[link.state]} {words}{times}"
