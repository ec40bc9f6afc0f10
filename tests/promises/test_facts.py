"""I6: time and chance, which are the same on every replay."""

import uuid
from datetime import datetime

from flowkit import aio, now, rng, task, uuid4
from flowkit_testing import Harness
from tests.promises.pages import load
from tests.rules.colours import Body, Colour


def test_chance_follows_from_the_run(harness: Harness, colour: Colour) -> None:
    """I6: `uuid4` and `rng` give the same on every replay, another value at each call, and write nothing."""
    drawn: list[tuple[uuid.UUID, uuid.UUID, float, float]] = []

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[None]:
        drawn.append((uuid4(), uuid4(), rng().random(), rng().random()))
        yield end()

    harness.crash("end")
    run = harness.run(trip)
    assert len(drawn) >= 2
    assert len(set(drawn)) == 1
    assert len(set(drawn[0])) == 4
    assert [entry.name for entry in run.journal] == ["end"]
    harness.run(trip)
    assert not {*drawn[-1]} & {*drawn[0]}


def test_chance_of_branches(harness: Harness) -> None:
    """I6: it follows from the number of the call, not from who is first."""
    drawn: dict[str, list[uuid.UUID]] = {"x": [], "y": []}

    async def one(name: str) -> None:
        await load(name)
        drawn[name].append(uuid4())
        await load(name)

    @task
    async def reads() -> None:
        await aio.gather(one("x"), one("y"))

    harness.delay(load, "1h", times=1, when=lambda page: page == "x")
    harness.crash(load, at="after_effect", when=lambda page: page == "x")
    assert harness.run(reads).ok
    assert all(len(set(numbers)) == 1 for numbers in drawn.values())
    assert drawn["x"][0] != drawn["y"][0]


def test_now_is_the_time_of_the_record(harness: Harness, colour: Colour) -> None:
    """I6: of the last recorded thing that this branch has seen: the same on replay, however late that is."""
    seen: list[list[datetime]] = []

    @colour.step
    def book() -> None:
        pass

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[None]:
        begun = now()
        yield book()
        booked = now()
        yield colour.sleep("1d")
        seen.append([begun, booked, now()])
        yield end()

    harness.delay("book", "1h")
    harness.crash("end")
    run = harness.run(trip)
    assert seen[0] == seen[1]
    hours = [(later - seen[0][0]).total_seconds() / 3600 for later in seen[0]]
    assert hours == [0, 1, 25]
    assert [entry.at_ms for entry in run.journal if entry.name == "book"] == [int(seen[0][1].timestamp() * 1000)]
