"""What a cancelled call raises when something of it could not be taken back any more (rule G6)."""

from __future__ import annotations

import asyncio
from typing import Any


class UnderWay(asyncio.CancelledError):
    """The call is cancelled, but its effect, or the commit of that, is on its way; `answer` will tell what came of it.

    To whoever does not go on with it, it is a cancellation like any other.
    """

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        super().__init__()
        self.answer = answer
