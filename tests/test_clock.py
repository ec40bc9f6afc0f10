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
    """A machine whose clock is put right, or runs slow, follows; what an answer takes on its way changes nothing."""
    machine = Machine()
    clock = FollowingClock(machine, 5_000_000)

    clock.heard(5_000_000 - TOLERATED_MS)
    assert clock.now_ms() == 5_000_000
    machine.ms -= 3_600_000
    clock.heard(5_000_010)
    assert clock.now_ms() == 5_000_010
