"""The awaitable forms of the functions that wait."""

from flowkit.converging import wait_for_work_async as wait_for_work
from flowkit.events import wait_for_event_async as wait_for_event
from flowkit.fan_out import each_async as each
from flowkit.fan_out import gather_async as gather
from flowkit.timers import sleep_async as sleep
from flowkit.timers import sleep_until_async as sleep_until

__all__ = ["each", "gather", "sleep", "sleep_until", "wait_for_event", "wait_for_work"]
