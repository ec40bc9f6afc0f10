"""Contract: any bytes, any names, up to the stated size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowkit.errors import FlowkitError
from flowkit.records import AnyOf, Block, Exactly, Finish, Message, MessageKind, NewRun, RunQuery, RunStatus, Send
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    T0,
    StorageSuite,
    begin,
    claim_ids,
    enqueue,
    event,
    grant,
    header_of,
    snapshot_of,
    take,
    tell,
)

ODD_NAMES = [
    "with space",
    "a/b/../c",
    "../../etc/passwd",
    "colon:pipe|dash-",
    "tab\tnewline\n",
    "quote'\"`;--",
    "%00%s{}$",
    "ünïcödé-运行-\N{SNOWMAN}-\N{PILE OF POO}",
    "0",
    "-1",
    "None",
    "x" * 1500,
]
EVERY_BYTE = bytes(range(256))


class Payloads(StorageSuite):
    """A storage keeps bytes and looks into none of them."""

    @pytest.mark.parametrize("payload", [b"", b"\0", EVERY_BYTE, b"\r\n", b"\x80\x04.", b"{}"], ids=repr)
    def test_bytes_come_back_as_they_were(self, storage: Storage, payload: bytes) -> None:
        """Input, entries, messages, results and shared values, whatever is in them."""
        storage.submit([NewRun("run", "task", payload, grant=grant("token"))], now_ms=T0)
        storage.send("run", event("id", payload), now_ms=T0)
        snapshot = snapshot_of(storage)
        assert (snapshot.input, snapshot.inbox[0].payload) == (payload, payload)

        take(storage, owner="token").write(payload, payload, then=Finish(RunStatus.SUCCEEDED, payload))
        storage.compare_and_set("key", 0, payload)

        snapshot = snapshot_of(storage)
        assert (snapshot.entries, snapshot.result) == ((payload, payload), payload)
        value = storage.get("key")
        assert value is not None
        assert value[0] == payload

    @pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
    def test_odd_names(self, storage: Storage, name: str) -> None:
        """Run ids, tasks, queues, tags, parents, workers, tokens, message ids and keys may be any text."""
        storage.submit([NewRun(name, name, b"", queue=name, tags=(name,), parent=name)], now_ms=T0)
        assert claim_ids(storage, name, AnyOf((name,), (name,))) == [name]
        message = Message(name, MessageKind.EVENT, name, b"")
        assert storage.send(name, message, now_ms=T0) == "delivered"
        assert storage.send(name, message, now_ms=T0) == "duplicate"
        writer = take(storage, name, name)
        writer.write(b"entry", consume=(name,), send=(Send(name, event(name + "2")),))

        (header,) = storage.list_runs(RunQuery(RunStatus.RUNNING, name, name)).headers
        assert (header.run_id, header.task, header.queue, header.tags) == (name, name, name, (name,))
        assert (header.parent, header.length, header.inbox) == (name, 1, 1)
        writer.write(then=Finish(RunStatus.SUCCEEDED, b""))
        storage.compare_and_set(name, 0, b"value")
        assert storage.get(name) is not None

    def test_names_that_begin_alike_are_apart(self, storage: Storage) -> None:
        """No id, task, queue or message id is mistaken for another that contains it."""
        names = ["a", "a|", "a|0", "a:", "a:b", "a-", "A", "a ", "a\t", "ab", "a%", "a_"]
        storage.submit([NewRun(name, name, name.encode(), queue=name) for name in names], now_ms=T0)

        for name in names:
            assert claim_ids(storage, f"token-{name}", AnyOf((name,), (name,))) == [name]
            take(storage, name, f"token-{name}").write(name.encode())
            storage.send(name, event(name), now_ms=T0)
        for name in names:
            snapshot = snapshot_of(storage, name)
            assert (snapshot.entries, [message.id for message in snapshot.inbox]) == ((name.encode(),), [name])

    def test_many_tags(self, storage: Storage) -> None:
        """All of a run's tags find it, in the order in which they were given."""
        tags = tuple(f"tag-{n}" for n in range(20))
        storage.submit([NewRun("run", "task", b"", tags=tags)], now_ms=T0)

        assert header_of(storage).tags == tags
        assert len(storage.list_runs(RunQuery(tag="tag-13")).headers) == 1
        assert storage.list_runs(RunQuery(tag="tag")).headers == ()

    def test_a_value_as_large_as_promised(self, storage: Storage) -> None:
        """Up to the stated limit everything is kept whole."""
        largest = EVERY_BYTE * (storage.open().max_value_bytes // 256)
        storage.submit([NewRun("run", "task", largest)], now_ms=T0)
        take(storage).write(largest, then=Finish(RunStatus.SUCCEEDED, largest))

        snapshot = snapshot_of(storage)
        assert snapshot.input == largest
        assert snapshot.entries == (largest,)
        assert snapshot.result == largest

    @pytest.mark.parametrize(
        "where", ["input", "fork", "entry", "result", "reason", "message", "sent", "child", "value"]
    )
    def test_a_value_larger_than_promised_is_refused(self, storage: Storage, where: str) -> None:
        """One clear error that names the size and the limit, and nothing is changed."""
        limit = storage.open().max_value_bytes
        large = bytes(limit + 1)
        writer = begin(storage)
        enqueue(storage, "peer")
        before = storage.list_runs(RunQuery()).headers
        calls: dict[str, Callable[[], object]] = {
            "input": lambda: storage.submit([NewRun("new", "task", large)], now_ms=T0),
            "fork": lambda: storage.submit([NewRun("new", "task", b"", entries=(b"", large))], now_ms=T0),
            "entry": lambda: writer.write(b"small", large),
            "result": lambda: writer.write(b"small", then=Finish(RunStatus.SUCCEEDED, large)),
            "reason": lambda: writer.write(b"small", then=Block(large)),
            "message": lambda: storage.send("peer", event("id", large), now_ms=T0),
            "sent": lambda: writer.write(b"small", send=(Send("peer", event("id", large)),)),
            "child": lambda: writer.write(b"small", spawn=(NewRun("new", "task", large),)),
            "value": lambda: storage.compare_and_set("key", 0, large),
        }

        with pytest.raises(FlowkitError) as caught:
            calls[where]()

        assert str(limit) in str(caught.value)
        assert str(limit + 1) in str(caught.value)
        assert storage.list_runs(RunQuery()).headers == before
        assert storage.get("key") is None
        writer.write(b"goes on")
        assert tell(storage, "id", "peer") == "delivered"
        assert claim_ids(storage, "token", Exactly("new")) == []
