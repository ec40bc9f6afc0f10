"""What any storage must do: subclass `StorageContract`, and every rule of the protocol is a test of yours.

    from flowkit_testing.contract import StorageContract


    class TestMyStorage(StorageContract):
        def make_storage(self, tmp_path):
            return MyStorage(tmp_path / "store")

A storage whose data outlive its process subclasses `DurableStorageContract` and says how another process opens them:

    class TestMyStorage(DurableStorageContract):
        def make_storage(self, tmp_path):
            return MyStorage(tmp_path / "store")

        def elsewhere(self, storage):
            return "my_package:MyStorage", str(storage.path)

All times are virtual (`now_ms` is always given), so nothing sleeps; what waits runs on a thread and is woken.
"""

from flowkit_testing.contract.base import StorageSuite
from flowkit_testing.contract.claiming import Claiming
from flowkit_testing.contract.committing import Committing
from flowkit_testing.contract.histories import Histories
from flowkit_testing.contract.keeping import Opening, Purging, Values
from flowkit_testing.contract.killing import Killing
from flowkit_testing.contract.leasing import Leasing
from flowkit_testing.contract.limiting import Limiting
from flowkit_testing.contract.messages import Cancelling, Ending, Sending
from flowkit_testing.contract.payloads import Payloads
from flowkit_testing.contract.racing import Racing
from flowkit_testing.contract.reading import Listing, Loading
from flowkit_testing.contract.resending import Resending
from flowkit_testing.contract.submitting import Submitting
from flowkit_testing.contract.suspending import Suspending
from flowkit_testing.contract.waiting import Waiting


class StorageContract(
    Submitting,
    Claiming,
    Leasing,
    Limiting,
    Committing,
    Suspending,
    Sending,
    Cancelling,
    Ending,
    Loading,
    Listing,
    Purging,
    Values,
    Opening,
    Waiting,
    Racing,
    Histories,
    Resending,
    Payloads,
):
    """What every storage must do. Override `make_storage`; `reopen` and `another` where data outlive the object."""


class DurableStorageContract(StorageContract, Killing):
    """What a storage must do besides whose data outlive the process: override `elsewhere` too."""


__all__ = ["DurableStorageContract", "StorageContract", "StorageSuite"]
