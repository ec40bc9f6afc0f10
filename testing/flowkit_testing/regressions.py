"""A folder of schedules that have broken something once, one file for each test: they are tried first."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from flowkit_testing.exploration import Violation
from flowkit_testing.points import Schedule, schedule_of

FOLDER = ".flowkit-regressions"
_MOST = 20


@frozen
class Regressions:
    """The schedules of one test.

    Args:
        folder: where they are kept; made when there is something to keep.
        test: its name.
    """

    folder: Path
    test: str

    @property
    def path(self) -> Path:
        """The file: a token on each line, and after it what it stands for."""
        return self.folder / (re.sub(r"[^\w.-]+", "-", self.test) + ".txt")

    def schedules(self) -> tuple[Schedule, ...]:
        """What has broken something before; a line that is no token is passed over."""
        if not self.path.exists():
            return ()
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            token, _, _ = line.partition(" ")
            try:
                found.append(schedule_of(token))
            except ValueError:
                continue
        return tuple(found)

    def keep(self, violation: Violation) -> None:
        """Have it tried first from now on, the newest before the others."""
        known = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        told = ", then ".join(map(str, violation.schedule))
        line = f"{violation.token} {told}"
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [line, *(each for each in known if each.partition(" ")[0] != violation.token)]
        self.path.write_text("\n".join(lines[:_MOST]) + "\n", encoding="utf-8")
