"""The machine's clock, and one that follows a storage's."""

from flowkit.clock import TOLERATED_MS, FollowingClock, SystemClock


class Machine(SystemClock):
    """A machine whose clock a test sets."""

    ms = 1_000_000

    def now_ms(self) -> int:
        """What it was set to."""
        return self.ms


def test_it_has_the_storages_time_and_goes_on_with_the_machine() -> None:
    """E4: workers whose clocks differ agree on when a timer is due."""
    machine = Machine()
    clock = FollowingClock(machine, 5_000_000)

    machine.ms += 250

    assert clock.now_ms() == 5_000_250
    assert not clock.virtual


def test_it_is_set_again_when_it_is_off() -> None:
    """A machine whose clock is put right, or runs slow or fast, follows; a little too fast is left alone."""
    machine = Machine()
    clock = FollowingClock(machine, 5_000_000)

    clock.heard(5_000_000 - TOLERATED_MS, 0)
    assert clock.now_ms() == 5_000_000
    machine.ms -= 3_600_000
    clock.heard(5_000_010, 5)
    assert clock.now_ms() == 5_000_010
    machine.ms += 3_600_000
    clock.heard(5_000_020, 5)
    assert clock.now_ms() == 5_000_025


def test_a_late_answer_does_not_set_it_back() -> None:
    """E4: what was told a second ago may be a second old, so a timer that is due stays due."""
    clock = FollowingClock(Machine(), 5_000_000)

    clock.heard(4_999_100, 900)

    assert clock.now_ms() == 5_000_000


def test_it_is_never_behind_what_it_has_heard() -> None:
    """E4: a run whose timer has rung is claimed at a time that its worker's clock has reached."""
    clock = FollowingClock(Machine(), 5_000_000)

    clock.heard(5_000_001, 300)

    assert clock.now_ms() == 5_000_001
