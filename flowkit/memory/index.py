"""Which runs there are, newest first, by status, task and tag."""

from __future__ import annotations

from collections.abc import Iterator

from flowkit.memory.order import NumberSet
from flowkit.memory.run import Run
from flowkit.records import RunQuery, RunStatus

_NOTHING = NumberSet()


class Index:
    """Every run by its number, and the numbers in every order that a listing asks for."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.by_status: dict[RunStatus, NumberSet] = {status: NumberSet() for status in RunStatus}
        self._everything = NumberSet()
        self._by_task: dict[str, NumberSet] = {}
        self._by_tag: dict[str, NumberSet] = {}

    def add(self, run: Run) -> None:
        """Take in a new run."""
        self.runs[run.seq] = run
        self._everything.add(run.seq)
        self.by_status[run.status].add(run.seq)
        for named, name in self._names(run):
            named.setdefault(name, NumberSet()).add(run.seq)

    def remove(self, run: Run) -> None:
        """Forget a run, and a name that no other run has."""
        del self.runs[run.seq]
        self._everything.remove(run.seq)
        self.by_status[run.status].remove(run.seq)
        for named, name in self._names(run):
            named[name].remove(run.seq)
            if not named[name]:
                del named[name]

    def set_status(self, run: Run, status: RunStatus) -> None:
        """Change a run's status, and where it is listed."""
        if status is not run.status:
            self.by_status[run.status].remove(run.seq)
            self.by_status[status].add(run.seq)
            run.status = status

    def narrowest(self, query: RunQuery) -> NumberSet:
        """The smallest of the sets that hold all the runs of a query."""
        found = [self._everything]
        if query.status is not None:
            found.append(self.by_status[query.status])
        if query.task is not None:
            found.append(self._by_task.get(query.task, _NOTHING))
        if query.tag is not None:
            found.append(self._by_tag.get(query.tag, _NOTHING))
        return min(found, key=len)

    def _names(self, run: Run) -> Iterator[tuple[dict[str, NumberSet], str]]:
        yield self._by_task, run.new.task
        for tag in set(run.new.tags):
            yield self._by_tag, tag
