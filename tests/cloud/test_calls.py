"""Blocking calls under anyio: a change is never abandoned, a read may be."""

from threading import Event

import anyio
import pytest

from compute_bridge.cloud.calls import Calls
from compute_bridge.ports.errors import QuotaError, UnavailableError

pytestmark = pytest.mark.anyio


class VendorError(Exception):
    pass


def translate(doing, error):
    return UnavailableError(f"cannot {doing}") if isinstance(error, VendorError) else None


@pytest.fixture
def calls():
    return Calls(translate, at_once=2)


class Slow:
    """A call that lasts until it is let go."""

    def __init__(self):
        self.begun = anyio.Event()
        self.go = Event()
        self.returned = False

    def __call__(self):
        anyio.from_thread.run_sync(self.begun.set)
        assert self.go.wait(10)
        self.returned = True
        return "made"


async def test_a_cancelled_change_waits_for_its_thread(calls):
    slow = Slow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.change, "create", slow)
        await slow.begun.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            early = slow.returned
            slow.go.set()

    assert not early
    assert slow.returned


async def test_a_cancelled_read_is_left_alone(calls):
    slow = Slow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.read, "list", slow)
        await slow.begun.wait()
        tasks.cancel_scope.cancel()
    left = slow.returned
    slow.go.set()

    assert not left


async def test_no_more_run_together_than_allowed(calls):
    slow = [Slow() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for one in slow:
            tasks.start_soon(calls.change, "create", one)
        await slow[0].begun.wait()
        await slow[1].begun.wait()
        await anyio.wait_all_tasks_blocked()
        third = slow[2].begun.is_set()
        for one in slow:
            one.go.set()

    assert not third
    assert all(one.returned for one in slow)


@pytest.mark.parametrize("kind", ["read", "change"])
async def test_the_sdks_error_is_translated_and_kept_as_the_cause(calls, kind):
    vendor = VendorError("secret text")

    def fail():
        raise vendor

    with pytest.raises(UnavailableError, match="cannot list") as caught:
        await getattr(calls, kind)("list", fail)
    assert caught.value.__cause__ is vendor


async def test_an_error_of_ours_passes_through(calls):
    def fail():
        raise QuotaError("used up")

    with pytest.raises(QuotaError, match="used up"):
        await calls.read("list", fail)


async def test_a_bug_is_no_failure_of_the_cloud(calls):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await calls.read("list", fail)
