"""A workflow of the corpus, and what is known of it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from flowkit.tasks import Runnable

AnyTask = Runnable[..., Any]


@frozen
class Case:
    """One workflow with its arguments."""

    task: AnyTask
    args: tuple[object, ...] = ()
    fails: type[BaseException] | None = None  # what it raises
    racing: bool = False  # its result depends on which of its parallel calls is done first

    @property
    def name(self) -> str:
        """A short name, for a test id."""
        return self.task.id.removeprefix("corpus-")
