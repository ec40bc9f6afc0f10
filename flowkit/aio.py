"""The awaitable forms of the functions that wait."""

from flowkit.timers import sleep_async as sleep
from flowkit.timers import sleep_until_async as sleep_until

__all__ = ["sleep", "sleep_until"]
