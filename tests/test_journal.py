"""The journal: what was written by any version is read for ever, and what is damaged is said."""

from __future__ import annotations

from datetime import date

import pytest

import flowkit
from flowkit import Flow, RunBlocked, RunStatus, SerializationError, saga, step, task
from flowkit.codec import Json, JsonCodec
from flowkit.codec.base import LARGE_TEXT
from flowkit.entries import Entry, Kind, Phase, encode, encode_done, split, split_all
from flowkit.journal import Journal
from flowkit.records import NewRun

# As they lie in people's storages: never change one, add the next format beside it.
INPUTS = {1: '{"v":1,"args":[5],"kwargs":{},"digest":"96289f63","seed":"aaace3","expires_at":null,"reply":null}'}
JOURNALS = {
    1: """
[1,"step","attempt","1","flaky",1795612688727,"96289f63",0]
{"attempt":1,"retry_at":1795612688917,"error":{"error":"builtins:ValueError","args":["no"]}}
[1,"step","done","1","flaky",1795612688917,"96289f63",0]
"2026-11-05"
[1,"step","failed","2","fail",1795612688917,"00000000",0]
{"error":{"error":"builtins:OSError","args":[5,"gone"],"text":"[Errno 5] gone"},"attempts":1}
[1,"step","done","=k","reserve",1795612688917,"30ebaa12",0]
{"x":"ü","t":{"$":"tuple","=":[1,2]}}
[1,"step","done","3.0.1","reserve",1795612688918,"bed2431a",0]
{"x":"a","t":{"$":"tuple","=":[1,2]}}
[1,"step","done","3.1.1","reserve",1795612688918,"95ff10d9",0]
{"x":"b","t":{"$":"tuple","=":[1,2]}}
[1,"patch","done","patch:p","p",1795612688918,"",0]
true
[1,"child","done","4","journal-child",1795612688919,"c07238e5",0]
6
[1,"sleep","begun","5","sleep",1795612688919,"",0]
1795612688920
[1,"sleep","done","5","sleep",1795612688920,"",0]
null
[1,"step","done","7","reserve",1795612688920,"17e48880",0]
{"x":"z","t":{"$":"tuple","=":[1,2]}}
[1,"saga","rollback","6","pay",1795612688920,"",0]
{"cause":{"error":"builtins:KeyError","args":["q"],"text":"'q'"},"cancelled":false,"undos":["7"]}
[1,"undo","done","7~undo","reserve",1795612688921,"",0]
null
"""
}
CODEC = JsonCodec()


def entries_of(journal: str) -> tuple[bytes, ...]:
    """The entries of a sample, two lines each."""
    lines = journal.strip().splitlines()
    return tuple(f"{head}\n{data}".encode() for head, data in zip(lines[::2], lines[1::2], strict=True))


@step
def flaky(number: int) -> date:
    """What was recorded as done after a failed attempt."""
    raise AssertionError(f"D2: completed steps do not run again ({number})")


@step(attempts=1)
def fail() -> None:
    """What was recorded as failed."""
    raise AssertionError("R3: a final failure stands")


@step
def reserve(what: str) -> dict[str, object]:
    """What was recorded as done, and once as undone."""
    raise AssertionError(f"D2: completed steps do not run again ({what})")


@reserve.compensate
def release(reservation: dict[str, object]) -> None:
    """What was recorded as done for one of them."""
    raise AssertionError(f"G3: nothing is undone twice ({reservation})")


@task(id="journal-child")
def child(number: int) -> int:
    """What was recorded as a child that has returned."""
    raise AssertionError(f"E3: a child that has ended does not run again ({number})")


@task(id="journal-sample", attempts=1)
def sample(number: int) -> list[object]:
    """The task that the samples are journals of."""
    seen: list[object] = [flaky(number)]
    try:
        fail()
    except OSError as error:
        seen.append(error.args)
    seen.append(reserve.options(key="k")("ü"))
    seen += flowkit.gather(reserve.bind("a"), reserve.bind("b"))
    seen.append(flowkit.patched("p"))
    seen.append(child(3))
    flowkit.sleep(0.001)
    try:
        with saga("pay"):
            seen.append(reserve("z"))
            raise KeyError("q")
    except KeyError as error:
        seen.append(error.args)
    return seen


@pytest.mark.parametrize("version", JOURNALS)
def test_a_journal_of_any_version_is_replayed(version: int) -> None:
    """Every entry of a sample is answered from, in a process of this version, and nothing runs again."""
    new = NewRun("old", sample.spec.id, INPUTS[version].encode(), entries=entries_of(JOURNALS[version]))
    with Flow("memory:", worker=False) as flow:
        flow.engine.create(new)
        assert flow.run(sample.options(run_id="old"), 5) == [
            date(2026, 11, 5),
            (5, "gone"),
            {"x": "ü", "t": (1, 2)},
            {"x": "a", "t": (1, 2)},
            {"x": "b", "t": (1, 2)},
            True,
            6,
            {"x": "z", "t": (1, 2)},
            ("q",),
        ]
        assert len(flow.engine.load("old").entries) == len(new.entries)


@pytest.mark.parametrize("version", JOURNALS)
def test_a_journal_of_any_version_is_written_the_same(version: int) -> None:
    """What was read is written again byte by byte, by hand and by rule. Only the latest version is written."""
    for raw in entries_of(JOURNALS[version]):
        (_, kind, phase, key, name, at_ms, args, took_ms), payload = split(raw)
        data = CODEC.loads(payload)
        if version == max(JOURNALS):
            assert encode(CODEC, Entry(kind, phase, key, name, at_ms, args, data, took_ms)) == raw
            if phase == Phase.DONE:
                assert encode_done(CODEC, kind, key, name, at_ms, args, took_ms, data) == raw


GOOD = b'[1,"step","done","1","s",5,"x",0]\n1'
DAMAGED = [
    b"",
    b"\n",
    b"1",
    b'[1,"step","done","2","s",5,"x",0]',  # no data
    b'[1,"step","done","2","s",5,"x"]\n1',  # a field less
    b'[1,"step","done","2","s",5,"x",0,0]\n1',  # a field more
    b'[1,"step","done","2","s",5,"x",0],[1,"step","done","3","s",5,"x",0]\n1',  # two in the place of one
    b'[1,"step","done","2"\n1',
    b'{"0":1}\n1',
    b'"12345678"\n1',
    b"[]\n1",
    b"\xff\n1",
]


@pytest.mark.parametrize("damaged", DAMAGED)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_entry_is_said(damaged: bytes, place: int) -> None:
    """One damaged entry among sound ones is named, wherever it stands."""
    entries = [GOOD, GOOD]
    entries.insert(place, damaged)
    with pytest.raises(SerializationError, match="damaged") as caught:
        list(split_all(entries))
    assert repr(damaged) in str(caught.value)


def test_an_entry_of_a_newer_version_is_said() -> None:
    """Nobody guesses what a later format means."""
    with pytest.raises(SerializationError, match=r"format 2.*update flowkit"):
        list(split_all([GOOD, b'[2,"step","done","2","s",5,"x",0]\n1']))


def test_lines_are_read_together_as_alone() -> None:
    """Reading many lines at once gives what reading each gives."""
    entries = entries_of(JOURNALS[1])
    assert [(tuple(line), payload) for line, payload in split_all(entries)] == [split(raw) for raw in entries]


@step
def later(number: int) -> int:
    """A step with an undo, for data that cannot be read."""
    return number


@later.compensate
def undo_later(number: int) -> None:
    """Its undo."""


@task(id="journal-unreadable")
def unreadable(number: int) -> int:
    """A task of one step."""
    return later(number)


def test_data_that_cannot_be_read_blocks_the_run() -> None:
    """D2: a recorded value that this codec cannot read is no reason to run the step again, nor to fail."""
    entry = b'[1,"step","done","1","later",5,"",0]\n'
    given = b'{"v":1,"args":[5],"kwargs":{},"digest":"","seed":"s","expires_at":null,"reply":null}'
    with Flow("memory:", worker=False) as flow:
        for run_id, data in (("cut", b'{"a":'), ("unknown", b'{"$":"no-such-kind","=":1}'), ("empty", b"")):
            flow.engine.create(NewRun(run_id, unreadable.spec.id, given, entries=(entry + data,)))
            with pytest.raises(RunBlocked, match=r"recorded outcome of step 'later'.*cannot be read here"):
                flow.run(unreadable.options(run_id=run_id), 5)
            assert flow.handle(run_id).status() is RunStatus.BLOCKED


def test_what_decides_is_read_at_once() -> None:
    """Attempts, starts and failures whose data is damaged are noticed before the body runs."""
    for phase in (Phase.ATTEMPT, Phase.BEGUN, Phase.FAILED):
        raw = encode(CODEC, Entry(Kind.STEP, phase, "1", "s", 5)).removesuffix(b"null") + b"{"
        with pytest.raises(SerializationError):
            Journal.read(CODEC, [raw])


class Reversed(JsonCodec):
    """A codec that stores in another way."""

    def dumps(self, document: Json) -> bytes:
        """The same, backwards."""
        return super().dumps(document)[::-1]


@pytest.mark.parametrize("codec", [CODEC, Reversed()], ids=["json", "custom"])
@pytest.mark.parametrize("text", ["x" * LARGE_TEXT, 'two\n"lines" ü\ud800' * LARGE_TEXT, "x" * LARGE_TEXT + "\0"])
def test_long_texts_are_written_as_any_other(codec: JsonCodec, text: str) -> None:
    """A long text takes a way of its own into its entry, which shows nowhere; a codec of the user's is asked."""
    entry = Entry(Kind.STEP, Phase.DONE, "1", "s", 5, "x", text)
    raw = encode_done(codec, entry.kind, entry.key, entry.name, entry.at_ms, entry.args, entry.took_ms, text)
    assert raw.partition(b"\n")[2] == codec.dumps(text)
    assert raw == encode(codec, entry)
