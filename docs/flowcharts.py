"""Draws the Mermaid flowcharts of the documentation as SVG while it is built: no script, nothing from the network.

It knows what `Sequencer.to_mermaid` writes, and no more of Mermaid than that.
"""

import html
import re
from dataclasses import dataclass, field

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

_NODE = re.compile(r'(n\d+)(\(\[|\["|\{"|\("|\[/")(.*?)(?:\]\)|"/?\]|"\}|"\))$')
_EDGE = re.compile(r'(n\d+) (-->|-\.->)(?:\|"(.*?)"\|)? (n\d+)$')
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _LETTER = 60, 30, 28, 62, 7.2


@dataclass
class Chart:
    """What the text says."""

    labels: dict[str, tuple[str, str]] = field(default_factory=dict)  # id -> shape and label
    edges: list[tuple[str, str, str, str]] = field(default_factory=list)  # from, to, arrow, label


def parse(text: str) -> Chart:
    """Read a flowchart; the frames of nested sequencers are left out."""
    chart = Chart()
    for line in (line.strip() for line in text.splitlines()):
        if node := _NODE.match(line):
            label = node[3].replace("#quot;", '"').replace("#lt;", "<").replace("#gt;", ">").strip()
            chart.labels[node[1]] = (node[2], label)
        elif edge := _EDGE.match(line):
            chart.edges.append((edge[1], edge[4], edge[2], edge[3] or ""))
    return chart


def places_of(chart: Chart) -> tuple[dict[str, tuple[float, float, float]], float, float]:
    """Centre and width of each node, in rows by the longest way to it; and the size of the whole."""
    rank = dict.fromkeys(chart.labels, 0)
    for source, target, _, _ in sorted(chart.edges, key=lambda edge: _number(edge[0])):
        if _number(target) > _number(source):
            rank[target] = max(rank[target], rank[source] + 1)
    rows: dict[int, list[str]] = {}
    for node in chart.labels:
        rows.setdefault(rank[node], []).append(node)
    above: dict[str, int] = {}  # the longest text on an arrow to the node
    for source, target, _, label in chart.edges:
        if _number(source) >= _number(target):
            continue
        above[target] = max(above.get(target, 0), len(label))
    widths = {
        node: max(_WIDTH if label else 10, len(label) * _LETTER + 24, above.get(node, 0) * _LETTER)
        for node, (_, label) in chart.labels.items()
    }
    totals = {
        row: sum(widths[node] for node in row_nodes) + _ACROSS * (len(row_nodes) - 1) for row, row_nodes in rows.items()
    }
    aside = max((len(label) for source, target, _, label in chart.edges if _passes(rank, source, target)), default=0)
    whole = max(totals.values()) + 2 * (60 + aside * _LETTER)
    places = {}
    for row, row_nodes in rows.items():
        x = (whole - totals[row]) / 2
        for node in row_nodes:
            places[node] = (x + widths[node] / 2, 24 + row * _DOWN, widths[node])
            x += widths[node] + _ACROSS
    return places, whole, 48 + max(rows) * _DOWN


def svg_of(text: str) -> str:
    """The chart as SVG, in the colours of the text around it."""
    chart = parse(text)
    places, width, height = places_of(chart)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        'style="max-width: 100%" role="img" fill="none" stroke="currentColor" font-size="12" '
        'font-family="sans-serif"><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor" stroke="none"/></marker></defs>'
    )
    parts = [head]
    parts += [_edge(places, *edge) for edge in chart.edges]
    parts += [_node(*places[node], *chart.labels[node]) for node in chart.labels]
    return "".join([*parts, "</svg>"])


def _passes(rank: dict[str, int], source: str, target: str) -> bool:
    """Whether an arrow goes around what is between."""
    return rank[target] != rank[source] + 1


def _number(node: str) -> int:
    return int(node[1:])


def _node(x: float, y: float, width: float, shape: str, label: str) -> str:
    left, half, top = x - width / 2, _HEIGHT / 2, y - _HEIGHT / 2
    if not label:
        return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="currentColor"/>'
    round_ = {"([": half, '("': 8}.get(shape, 2)
    drawn = f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="{round_:.0f}"/>'
    if shape == '{"':
        right, bottom = x + width / 2, y + half
        drawn = (
            f'<path d="M{left:.0f} {y:.0f}L{left + 12:.0f} {top:.0f}H{right - 12:.0f}L{right:.0f} {y:.0f}'
            f'L{right - 12:.0f} {bottom:.0f}H{left + 12:.0f}z"/>'
        )
    return (
        f'{drawn}<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" fill="currentColor" stroke="none">'
        f"{html.escape(label)}</text>"
    )


def _half(width: float) -> float:
    """Half the height of a node; one without a text is a dot."""
    return 5 if width < _WIDTH else _HEIGHT / 2


def _edge(places: dict[str, tuple[float, float, float]], source: str, target: str, arrow: str, label: str) -> str:
    (x1, y1, w1), (x2, y2, w2) = places[source], places[target]
    dash = ' stroke-dasharray="4 3"' if arrow == "-.->" else ""
    if y2 <= y1 or y2 > y1 + _DOWN:  # back up, or around what is between, on the right
        y1, y2 = (y1 + 8, y2 - 8) if source == target else (y1, y2)
        far = max(x1 + w1 / 2, x2 + w2 / 2) + 48
        path = f"M{x1 + w1 / 2:.0f} {y1:.0f}C{far:.0f} {y1:.0f} {far:.0f} {y2:.0f} {x2 + w2 / 2:.0f} {y2:.0f}"
        at = (far - 8, (y1 + y2) / 2, "start")
    else:
        top, bottom = y1 + _half(w1), y2 - _half(w2)
        bend = (bottom - top) / 2
        path = f"M{x1:.0f} {top:.0f}C{x1:.0f} {top + bend:.0f} {x2:.0f} {bottom - bend:.0f} {x2:.0f} {bottom:.0f}"
        at = ((x1 + x2) / 2 + 4, (top + bottom) / 2 + 4, "start")
    text = (
        f'<text x="{at[0]:.0f}" y="{at[1]:.0f}" text-anchor="{at[2]}" fill="currentColor" stroke="none" '
        f'font-size="11">{html.escape(label)}</text>'
        if label
        else ""
    )
    return f'<path d="{path}"{dash} marker-end="url(#tip)"/>{text}'


class Flowchart(Directive):
    """A fenced block of Mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The drawing; in other formats than HTML, the text."""
        text = "\n".join(self.content)
        return [nodes.raw("", svg_of(text), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("mermaid", Flowchart)
    return {"parallel_read_safe": True}
