"""What a run has been sent: taken once, by one."""

import pytest

from flowkit.mailbox import Mailbox
from flowkit.records import Message, MessageKind


@pytest.fixture
def event() -> Message:
    """An event."""
    return Message("event:1", MessageKind.EVENT, "a", b"{}")


def test_what_was_taken_does_not_come_in_again(event: Message) -> None:
    """E5: a look at the inbox from before an event was taken brings nothing back, so nobody receives it twice."""
    mailbox = Mailbox([event])
    mailbox.consume([event.id])
    mailbox.add([event])

    assert mailbox.events("a", "1") == []
    assert (mailbox.arrived, mailbox.consumed, len(mailbox)) == (1, 1, 0)


def test_what_was_given_is_for_one_call(event: Message) -> None:
    """E5: an event that was given to a call is not there for another, until the body starts over."""
    mailbox = Mailbox([event])
    mailbox.keep(event, "1")

    assert mailbox.events("a", "1") == [event]
    assert mailbox.events("a", "2") == []
    mailbox.forget_who_took_what()
    assert mailbox.events("a", "2") == [event]
