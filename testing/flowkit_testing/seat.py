"""A thread on which a pretended process advances one run, so that it can be left standing in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flowkit_testing.process import Process


class Seat:
    """One run being advanced on a thread.

    Args:
        process: whose run it is.
        work: advances it.
    """

    def __init__(self, process: Process, work: Callable[[], None]) -> None:
        self.process = process
        self._work = work
        self._quiet = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._body, name="flowkit-process", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.process.on_stop = self._quiet.set
        self._thread.start()

    def wait(self) -> bool:
        """Wait until the work is over or its process stands still; True if it stands still.

        Raises:
            BaseException: what the work has raised.
        """
        self._quiet.wait()
        self._quiet.clear()
        if self.process.stopped and self.process.died is None and self._thread.is_alive():
            return True
        self._thread.join()
        if self._error is not None:
            raise self._error
        return False

    def _body(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            self._error = error
        finally:
            self._quiet.set()
