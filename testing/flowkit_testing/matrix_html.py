"""Matrices of explorations as one page of HTML that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from flowkit_testing.exploration import Verdict
from flowkit_testing.matrix import Matrix, total

_MARKS: dict[Verdict, str] = {"passed": "●", "failed": "✗", "equal": "=", "not reached": "?", "not tried": "-"}


def page_of(matrices: Sequence[Matrix], title: str = "flowkit: explored workflows") -> str:
    """The page.

    Args:
        matrices: what was found, in the order in which it is to be shown; what failed comes first.
        title: its heading.
    """
    import jinja2  # noqa: PLC0415  # only this page needs it, so whoever asks for no page need not have it

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files(__package__) / "matrix.html").read_text("utf-8"))
    return template.render(
        title=title,
        matrices=sorted(matrices, key=lambda matrix: matrix.safe),
        counts=total(matrices),
        marks=_MARKS,
    )
