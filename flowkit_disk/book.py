"""One transaction's view of the rows: runs, lanes and blocks, read once and written once, at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from flowkit.records import NewRun
from flowkit_disk import keys
from flowkit_disk.blobs import Staged
from flowkit_disk.blocks import NAMES, NOBODY, RUNS, Block, block_of, code, codes_of, number_of
from flowkit_disk.crowds import Crowd
from flowkit_disk.failures import reads_rows
from flowkit_disk.lanes import Lanes
from flowkit_disk.logrows import NO_NOTE, Kind, LogRow, Note, Part, pack_part, pack_row, refs, unpack_tail
from flowkit_disk.rows import Rows
from flowkit_disk.runrow import INLINE_BYTES, Place, Run, add_tail, new_run, pack_run, unpack_run

_LEASED = codes_of(places=frozenset({Place.LEASED}))


class Book:
    """What one transaction has read and is about to write."""

    def __init__(self, rows: Rows, lanes: Lanes, staged: Staged, now_ms: int, may_know: Callable[[str], bool]) -> None:
        self.rows = rows
        self.lanes = lanes
        self.staged = staged
        self.now_ms = now_ms
        self.work = False  # a run became ready, or a timer was set
        self.changed: set[str] = set()  # ids of runs that changed
        self.granted: dict[str, int] = {}  # tokens of grants that got leases, and how many they have had
        self.may_know = may_know  # whether a grant with this token may have been answered before
        self._runs: dict[str, Run | None] = {}
        self._dirty: set[str] = set()
        self._blocks: dict[int, Block] = {}
        self._dirty_blocks: set[int] = set()
        self._last_block: int | None = None
        self._names: dict[int, list[str]] = {}
        self._crowds: dict[tuple[int, str], Crowd] = {}

    # ---- runs

    def run(self, run_id: str) -> Run | None:
        """A run as it stands, this transaction's changes included."""
        if run_id in self._runs:
            return self._runs[run_id]
        data = self.rows.get(keys.run(run_id))
        run = None if data is None else unpack_run(data)
        if run is not None and run.place is Place.LEASED:
            self._add_tail(run)
        self._runs[run_id] = run
        return run

    def _add_tail(self, run: Run) -> None:
        last = self.rows.last_tag(keys.log(run.number))
        if last is not None and (position := keys.position(last[0])) > run.position:
            add_tail(run, position, *unpack_tail(last[1]))

    def has_read(self, run_id: str) -> bool:
        """Whether a run was looked at, and may have been changed, in this transaction."""
        return run_id in self._runs

    def runs(self) -> list[Run]:
        """The runs that were looked at and exist."""
        return [run for run in self._runs.values() if run is not None]

    def create(self, new: NewRun) -> Run:
        """A run whose id is free. The caller puts it into its place."""
        number = self._next_number()
        run = new_run(new, number, self.lanes.number(self.rows, new.queue, new.task), self.now_ms)
        if len(new.input) <= INLINE_BYTES:
            run.input = new.input
        else:
            self.rows.put(keys.input_of(number), pack_part(self.part(new.input)))
        self._runs[new.run_id] = run
        at, _ = block_of(number)
        self._block(at).add(run)
        self._dirty_blocks.add(at)
        self._add_name(run)
        if new.entries:
            self.log(run, Kind.COMMIT, entries=new.entries)
        self.touch(run)
        return run

    def forget(self, run: Run) -> None:
        """Take a run off the books; its log is left for `purging` to clear away."""
        self._runs[run.run_id] = None
        self._dirty.discard(run.run_id)
        self.rows.drop(keys.run(run.run_id))
        self._mark(run.number, NOBODY)
        self.changed.add(run.run_id)

    def touch(self, run: Run) -> None:
        """The run's row has to be written anew."""
        self._dirty.add(run.run_id)
        self.changed.add(run.run_id)

    def log(
        self, run: Run, kind: Kind, entries: tuple[bytes, ...] = (), commit_id: str = "", note: Note = NO_NOTE
    ) -> None:
        """Write down that something happened to a run.

        Every change does, so that an append that did not expect it finds its position taken (rule D4).
        """
        parts = tuple(self.part(entry) for entry in entries)
        row = LogRow(kind, run.length, self.now_ms, commit_id, parts, note)
        run.position += 1
        self.rows.put(keys.entry(run.number, run.position), *pack_row(row))
        run.length += len(row.entries)
        run.updated_ms = self.now_ms
        self.touch(run)

    def part(self, payload: bytes) -> Part:
        """What a row says for a payload; one that lies in a file is written down as ours."""
        part = self.staged.part(payload)
        self.own((part,))
        return part

    def own(self, parts: Iterable[Part]) -> None:
        """Write down which files are ours."""
        for ref in refs(parts):
            self.staged.used.add(ref.name)
            self.rows.put(keys.blob(ref.name), b"")

    def set_result(self, run: Run, result: bytes | None) -> None:
        """Keep what a run ended with, or why it is blocked."""
        if run.has_result and run.result is None:
            self.rows.drop(keys.result_of(run.number))
        run.has_result = result is not None
        small = result is None or len(result) <= INLINE_BYTES
        run.result = result if small else None
        if result is not None and not small:
            self.rows.put(keys.result_of(run.number), pack_part(self.part(result)))

    def leased(self) -> Iterator[Run]:
        """Every run that is leased: a search through all blocks, for what happens rarely."""
        first, last = extent(self.rows)
        for number in range(first, last + 1):
            for place in self._block(number).places(_LEASED):
                run = self.run_of(number_of(number, place))
                if run is not None:
                    yield run

    def owned_by(self, token: str) -> list[Run]:
        """The runs that a grant still owns, in the order in which it got them."""
        owned = [run for run in self.leased() if run.owner == token] if self.may_know(token) else []
        return sorted(owned, key=lambda run: run.nth)

    def next_nth(self, token: str) -> int:
        """The place of one more lease among those of a grant."""
        if token not in self.granted:
            self.granted[token] = 1 + max((run.nth for run in self.owned_by(token)), default=-1)
        nth = self.granted[token]
        self.granted[token] += 1
        return nth

    def run_of(self, number: int) -> Run | None:
        """The run of a number."""
        run_id = run_id_of(self.rows, number)
        return None if run_id is None else self.run(run_id)

    # ---- limits

    def crowd(self, run: Run) -> Crowd | None:
        """Those with whom a run shares a limit."""
        if run.limit is None:
            return None
        crowd = self._crowds.get((run.lane, run.limit.key))
        if crowd is None:
            crowd = self._crowds[run.lane, run.limit.key] = Crowd(self.rows, run.lane, run.limit.key)
        return crowd

    def settle(self) -> None:
        """Before anybody looks at ready runs: show those that have room."""
        for crowd in self._crowds.values():
            if crowd.settle(self.now_ms, self.run):
                self.work = True

    # ---- numbers, names and blocks

    def _last(self) -> int:
        if self._last_block is None:
            self._last_block = extent(self.rows)[1]
        return self._last_block

    def _next_number(self) -> int:
        last = self._last()
        if len(self._block(last)) >= RUNS:
            last = self._last_block = last + 1
        return number_of(last, len(self._block(last)))

    def _block(self, number: int) -> Block:
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = Block(self.rows.get(keys.block(number)) or b"")
        return block

    def _mark(self, number: int, value: int) -> None:
        at, place = block_of(number)
        block = self._block(at)
        if block.codes[place] != value:
            block.codes[place] = value
            self._dirty_blocks.add(at)

    def _add_name(self, run: Run) -> None:
        row, place = divmod(run.number - 1, NAMES)
        if row not in self._names:
            self._names[row] = _names_of(self.rows, row)
        self._names[row][place:] = [run.run_id]

    # ---- the end

    def write(self) -> None:
        """Write what has changed."""
        self.settle()
        for run_id in self._dirty:
            run = self._runs[run_id]
            if run is not None:
                self.rows.put(keys.run(run_id), pack_run(run))
                self._mark(run.number, code(run.status, run.place))
        for row, names in self._names.items():
            self.rows.put(keys.names(row), json.dumps(names).encode())
        for number in self._dirty_blocks:
            block = self._blocks[number]
            if any(block.codes) or number == self._last():  # the last one stays: it says which numbers are taken
                self.rows.put(keys.block(number), block.packed())
            else:
                self.rows.drop(keys.block(number))


def extent(rows: Rows) -> tuple[int, int]:
    """The numbers of the first and the last block. In a transaction."""
    first, last = rows.first(keys.BLOCKS), rows.last(keys.BLOCKS)
    if first is None or last is None:
        return 1, 1
    return keys.block_number(first[0]), keys.block_number(last[0])


def run_id_of(rows: Rows, number: int) -> str | None:
    """The id of the run of a number, purged or not."""
    row, place = divmod(number - 1, NAMES)
    known = _names_of(rows, row)
    return known[place] if place < len(known) else None


@reads_rows
def _names_of(rows: Rows, row: int) -> list[str]:
    data = rows.get(keys.names(row))
    return [] if data is None else [str(name) for name in json.loads(data)]
