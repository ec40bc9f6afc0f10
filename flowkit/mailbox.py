"""What has been sent to a run and not been taken yet, as this incarnation knows it: looked up, never searched.

It is read with the run and again when the storage tells of more messages than are known here, so that waiting for a
thousand children costs no look through a thousand messages for each of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from flowkit.records import Message, MessageKind


class Mailbox:
    """The inbox of one run. Safe to use from any thread.

    `arrived` and `consumed` count the messages that have come in and that were taken, of those known here: whoever has
    seen `arrived` messages and needs n more is to be woken when the storage holds `arrived + n - consumed`.
    """

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.lock = threading.RLock()
        self.arrived = 0
        self.consumed = 0
        self._waiting: dict[str, Message] = {}
        self._taken: set[str] = set()  # ids that must not come in again by a look from before they were taken
        self._ends: dict[str, Message] = {}  # how children have ended, by their run ids
        self._events: dict[str, dict[str, Message]] = {}  # by name, oldest first
        self._kept_for: dict[str, str] = {}  # which operation an event was given to
        self.add(messages)

    def __len__(self) -> int:
        """How many are waiting."""
        return len(self._waiting)

    def add(self, messages: Iterable[Message]) -> None:
        """Take in what the storage holds; what is known already stays as it is."""
        with self.lock:
            for message in messages:
                if message.id in self._waiting or message.id in self._taken:
                    continue
                self._waiting[message.id] = message
                self.arrived += 1
                if message.kind is MessageKind.CHILD:
                    self._ends[message.name] = message
                elif message.kind is MessageKind.EVENT:
                    self._events.setdefault(message.name, {})[message.id] = message

    def consume(self, ids: Iterable[str]) -> None:
        """A change that takes these messages out of the inbox is being written."""
        with self.lock:
            for message_id in ids:
                self._taken.add(message_id)
                message = self._waiting.pop(message_id, None)
                if message is None:
                    continue
                self.consumed += 1
                if message.kind is MessageKind.EVENT:
                    self._events[message.name].pop(message_id, None)
                elif self._ends.get(message.name) is message:
                    del self._ends[message.name]

    def ends(self) -> Mapping[str, Message]:
        """How children have ended, by their run ids."""
        return self._ends

    def events(self, name: str, key: str) -> list[Message]:
        """The events of a name that no other operation has been given, oldest first."""
        found = self._events.get(name, {}).values()
        return [message for message in found if self._kept_for.get(message.id, key) == key]

    def keep(self, message: Message, key: str) -> None:
        """An operation takes this event, and will consume it."""
        self._kept_for[message.id] = key

    def forget_who_took_what(self) -> None:
        """The body starts over: what was not consumed is for whoever asks."""
        self._kept_for.clear()
