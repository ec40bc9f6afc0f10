"""Schedules: `@task(cron=...)`, one run for each tick, however many workers there are and whatever happens to them."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve

from flowkit import Concurrency, ConfigurationError, Cron, Flow, Task, task
from flowkit.clock import SystemClock
from flowkit.records import RunStatus
from flowkit.registry import TaskSpec
from flowkit.scheduler import Scheduler
from flowkit_testing import Harness
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, Wire, eventually

DAILY = "30 4 * * *"
Scheduled = Task[..., Any]


def at(text: str) -> int:
    """A time in UTC, in milliseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def scheduler(flow: Flow, *tasks: Scheduled) -> Scheduler:
    """One worker's eye on the schedules of these tasks."""
    specs: tuple[TaskSpec, ...] = tuple(each.spec for each in tasks)
    return Scheduler(flow.engine, lambda: specs)


def ids(flow: Flow) -> list[str]:
    """The runs there are, oldest first."""
    return [header.run_id for header in reversed(flow.runs().runs)]


@task(id="nightly", cron=DAILY)
def nightly() -> str:
    """A scheduled task."""
    return "done"


class TestTicks:
    """Once for each tick."""

    def test_a_schedule_begins_when_it_is_first_seen(self, store: Store, clock: FakeClock) -> None:
        """Ticks before that are nobody's; the next one creates a run, named after task and tick, and no second one."""
        clock.ms = at("2026-03-01T12:00")
        flow = store.flow(clock=clock)
        eye = scheduler(flow, nightly)

        assert eye.look() == at("2026-03-02T04:30")
        clock.ms = at("2026-03-02T04:29:59.999")
        eye.look()
        assert ids(flow) == []
        clock.ms = at("2026-03-02T04:30")
        assert eye.look() == at("2026-03-03T04:30")
        clock.advance(minutes=5)
        eye.look()

        assert ids(flow) == ["nightly@2026-03-02T04:30Z"]
        assert flow.runs().runs[0].task == "nightly"

    def test_many_workers_create_one_run(self, store: Store, clock: FakeClock, aside: Executor) -> None:
        """However many look at the same time, in however many processes."""
        clock.ms = at("2026-03-01T12:00")
        eyes = [scheduler(store.flow(clock=clock), nightly) for _ in range(4)]
        for eye in eyes:
            eye.look()
        clock.advance(days=1)
        list(aside.map(lambda eye: eye.look(), eyes))

        assert ids(store.flow(clock=clock)) == ["nightly@2026-03-02T04:30Z"]

    def test_of_missed_ticks_the_latest_gets_a_run(self, store: Store, clock: FakeClock) -> None:
        """The policy: after any time without workers, one run, for the last tick that was missed."""
        clock.ms = at("2026-03-01T12:00")
        scheduler(store.flow(clock=clock), nightly).look()
        clock.advance(days=400)
        flow = store.flow(clock=clock)
        scheduler(flow, nightly).look()

        assert ids(flow) == ["nightly@2027-04-05T04:30Z"]

    def test_a_worker_that_dies_in_between_loses_no_tick(self, store: Store, clock: FakeClock, wire: Wire) -> None:
        """The run is created before the tick is ticked off, and not a second time by whoever comes after."""

        def die(name: str, _args: object) -> None:
            if name == "compare_and_set":
                raise Crash

        clock.ms = at("2026-03-01T12:00")
        flow = store.flow(wire.storage, clock=clock)
        eye = scheduler(flow, nightly)
        eye.look()
        clock.advance(days=1)
        wire.before = die
        with pytest.raises(Crash):
            eye.look()
        wire.before = None
        scheduler(flow, nightly).look()
        assert ids(flow) == ["nightly@2026-03-02T04:30Z"]
        assert flow.run(nightly.options(run_id="nightly@2026-03-02T04:30Z")) == "done"
        clock.advance(hours=1)
        assert flow.prune("1m") == 1
        scheduler(flow, nightly).look()
        assert ids(flow) == []  # ticked off, though its run is forgotten

    def test_a_changed_schedule_begins_anew(self, store: Store, clock: FakeClock) -> None:
        """Ticks that the new expression would have had before it came are not made up for."""
        clock.ms = at("2026-03-01T12:00")
        flow = store.flow(clock=clock)
        scheduler(flow, nightly).look()
        clock.advance(minutes=59)
        changed = rescheduled(nightly, "@hourly")
        scheduler(flow, changed).look()
        assert ids(flow) == []
        clock.advance(minutes=1)
        scheduler(flow, changed).look()
        assert ids(flow) == ["nightly@2026-03-01T13:00Z"]

    def test_a_clock_that_is_set_back_creates_nothing_twice(self, store: Store, clock: FakeClock) -> None:
        """Nor does it stop the schedule."""

        @task(id="hourly", cron="@hourly")
        def hourly() -> None: ...

        clock.ms = at("2026-03-01T12:30")
        flow = store.flow(clock=clock)
        eye = scheduler(flow, hourly)
        eye.look()
        clock.advance(hours=1)
        eye.look()
        clock.advance(hours=-1)
        assert eye.look() == at("2026-03-01T13:00")
        clock.advance(minutes=30)
        eye.look()
        clock.advance(hours=1)
        eye.look()

        assert ids(flow) == ["hourly@2026-03-01T13:00Z", "hourly@2026-03-01T14:00Z"]

    def test_what_cannot_be_created_is_said_and_tried_again(
        self, store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A mistake in one schedule holds up no other, and its tick is made up for when it is mended."""
        broken = [True]

        def key(*_args: object) -> str:
            if broken:
                raise LookupError("no key")
            return "key"

        @task(id="a-broken", cron=DAILY, concurrency=Concurrency(1, key=key))
        def first() -> None: ...

        @task(id="b-sound", cron=DAILY)
        def second() -> None: ...

        clock.ms = at("2026-03-01T12:00")
        flow = store.flow(clock=clock)
        eye = scheduler(flow, first, second)
        eye.look()
        clock.advance(days=1)
        with caplog.at_level(logging.ERROR, "flowkit"):
            eye.look()
        assert ids(flow) == ["b-sound@2026-03-02T04:30Z"]
        assert "a-broken@2026-03-02T04:30Z" in caplog.text
        assert "no key" in caplog.text
        broken.clear()
        clock.advance(minutes=1)
        eye.look()
        assert ids(flow) == ["b-sound@2026-03-02T04:30Z", "a-broken@2026-03-02T04:30Z"]


def rescheduled(scheduled: Scheduled, expression: str) -> Scheduled:
    """The same task after its schedule was changed."""
    return type(scheduled)(evolve(scheduled.spec, cron=Cron(expression)))


class TestWhoMakesThem:
    """Workers do, embedded or not, and the harness."""

    def test_an_embedded_worker_runs_what_is_scheduled(self, store: Store) -> None:
        """`Flow` with its worker on creates the run of a tick and runs it."""
        clock = ShiftedClock()

        @task(id="scheduled-embedded", cron="0 0 29 2 *")
        def leap_day(tick: datetime) -> str:
            return tick.isoformat()

        with Flow(store.storage(), clock=clock) as flow:
            key = "cron:scheduled-embedded:0 0 29 2 *:UTC"
            eventually(lambda: flow.engine.storage.get(key) is not None)
            clock.shift_ms = at("2028-03-01T00:00") - SystemClock().now_ms()
            run_id = "scheduled-embedded@2028-02-29T00:00Z"
            eventually(lambda: run_id in ids(flow))
            assert flow.handle(run_id).result(timeout=PATIENCE_S) == "2028-02-29T00:00:00+00:00"

    def test_the_harness_lets_ticks_come_as_time_passes(self, harness: Harness) -> None:
        """Only those that the test asks for, each at its time, and nothing sleeps."""
        ran: list[datetime] = []

        @task(id="harness-nightly", cron=DAILY)
        def nightly(tick: datetime) -> None:
            ran.append(tick)

        @task(id="harness-unasked", cron=DAILY)
        def unasked(tick: datetime) -> None:
            ran.append(tick)

        harness.schedule(nightly)
        harness.clock.advance("3d")

        assert len(ran) == 3
        assert {(tick.hour, tick.minute, tick.tzinfo) for tick in ran} == {(4, 30, UTC)}
        assert [later - sooner for sooner, later in pairwise(ran)] == [timedelta(days=1)] * 2

    def test_a_client_creates_nothing(self, store: Store) -> None:
        """A flow without a worker leaves schedules to others."""

        @task(id="scheduled-client", cron="0 0 29 2 *")
        def leap_day() -> None: ...

        with Flow(store.storage(), worker=False) as flow:
            flow.start(leap_day)
            assert flow.engine.storage.get("cron:scheduled-client:0 0 29 2 *:UTC") is None


class ShiftedClock(SystemClock):
    """The machine's clock, some time away."""

    shift_ms = 0

    def now_ms(self) -> int:
        """The shifted time."""
        return super().now_ms() + self.shift_ms


class TestExpressions:
    """What can be written, and what it means."""

    @pytest.mark.parametrize(
        ("cron", "part"),
        [
            ("every day", "it has 2 fields"),
            ("61 * * * *", "bad minute"),
            ("* * * * * *", "it has 6 fields"),
            ("* * 32 * *", "bad day-of-month"),
            ("* * * * FUNDAY", "bad day-of-week"),
            (5, "write a text"),
            ("", "it has 0 fields"),
        ],
    )
    def test_a_bad_expression_is_refused_when_the_task_is_made(self, cron: str | int, part: str) -> None:
        """The error names the task, the value and what to write."""
        with pytest.raises(ConfigurationError) as caught:

            @task(id="badly-scheduled", cron=cast("str", cron))
            def bad() -> None: ...

        message = str(caught.value)
        assert "task 'badly-scheduled'" in message
        assert f"cron={cron!r}" in message
        assert part in message
        assert "30 4 * * " in message

    @pytest.mark.parametrize("tz", ["Mars/Olympus", "../etc/passwd", "", 7])
    def test_a_zone_that_is_not_known_is_refused(self, tz: str | int) -> None:
        """By its name."""
        with pytest.raises(ConfigurationError, match="time zone") as caught:
            Cron(DAILY, tz=cast("str", tz))
        assert repr(tz) in str(caught.value)

    def test_arguments_that_nobody_can_give_are_refused(self) -> None:
        """A scheduled task takes none, or the tick."""
        with pytest.raises(ConfigurationError, match=r"task 'wants-much'.*takes none, or one"):

            @task(id="wants-much", cron=DAILY)
            def wants(a: int, b: int) -> None: ...

        with pytest.raises(ConfigurationError, match="takes none, or one"):

            @task(id="wants-named", cron=DAILY)
            def named(*, a: int) -> None: ...

    def test_options_with_defaults_stay_as_they_are(self, memory: Store, clock: FakeClock) -> None:
        """An argument that has a default is none that the schedule gives."""

        @task(id="has-default", cron=DAILY)
        def has_default(limit: int = 10, *rest: int, **more: int) -> int:
            return limit + len(rest) + len(more)

        clock.ms = at("2026-03-01T12:00")
        flow = memory.flow(clock=clock)
        eye = scheduler(flow, has_default)
        eye.look()
        clock.advance(days=1)
        eye.look()
        assert flow.run(has_default.options(run_id="has-default@2026-03-02T04:30Z")) == 10
        assert flow.runs().runs[0].status is RunStatus.SUCCEEDED

    def test_a_zone_decides_what_the_hours_mean(self) -> None:
        """Nine in the morning is nine there, in summer and in winter."""
        schedule = Cron("0 9 * * *", tz="Europe/Berlin")
        summer, winter = (schedule.after(datetime(2026, month, 1, tzinfo=UTC)) for month in (7, 1))
        assert summer is not None
        assert winter is not None
        assert (summer.astimezone(UTC).hour, winter.astimezone(UTC).hour) == (7, 8)

    @pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
    @pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "0 */2 * * *", "15 1,3 * * *", "5 * * * *"])
    def test_looking_back_finds_what_looking_ahead_does(self, zone: str, expression: str) -> None:
        """`latest` is the last tick that `after` would have come to, also where clocks change."""
        schedule = Cron(expression, tz=zone)
        for change in ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"):
            begin = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=18)
            ticks = list(ahead(schedule.after, begin, begin + timedelta(hours=48)))
            for tick in ticks:
                assert schedule.latest(tick) == tick
                assert schedule.latest(tick + timedelta(seconds=30)) == tick
            assert len({tick.astimezone(UTC) for tick in ticks}) == len(ticks)

    def test_a_time_that_is_skipped_comes_and_one_that_comes_twice_counts_once(self) -> None:
        """As Debian's cron has it, for schedules that name their hours."""
        schedule, berlin = Cron("30 2 * * *", tz="Europe/Berlin"), ZoneInfo("Europe/Berlin")
        spring = [datetime(2026, 3, 28, 12, tzinfo=berlin), datetime(2026, 3, 29, 12, tzinfo=berlin)]
        autumn = [datetime(2026, 10, 24, 12, tzinfo=berlin), datetime(2026, 10, 25, 12, tzinfo=berlin)]
        assert [tick.hour for tick in ahead(schedule.after, *spring)] == [3]
        assert [tick.hour for tick in ahead(schedule.after, *autumn)] == [2]


def ahead(after: Callable[[datetime], datetime | None], begin: datetime, end: datetime) -> Iterator[datetime]:
    """All ticks between two moments."""
    tick = after(begin)
    while tick is not None and tick <= end:
        yield tick
        tick = after(tick)
