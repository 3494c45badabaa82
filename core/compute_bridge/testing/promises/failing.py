"""The promises about failures: each has its class, keeps its cause, and tells no secret."""

import logging
import traceback
from collections.abc import Awaitable, Callable

import pytest

from compute_bridge.ports.backend import Backend, Instance, Offer, Order
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    ThrottledError,
    UnavailableError,
)
from compute_bridge.testing.promises.situation import Situation, a_moment, end, make, patience, power, settle
from compute_bridge.testing.world import SupportsQuota, SupportsThrottle, World

_METHODS = ("offers", "provision", "find", "list_owned", "usage", "terminate")


class FailingPromises(Situation):
    """What every method promises of its failures."""

    async def test_no_capacity_is_named(self, world: World, backend: Backend, order: Order) -> None:
        """Without capacity ``provision`` raises ``NoCapacityError`` and leaves nothing; with it, it works again.

        Troubleshooting: map the cloud's code to the class and the narrowest true scope; undo what was made before.
        """
        await world.exhaust()
        await _fails(world, lambda: backend.provision(order), NoCapacityError)
        await settle(world, backend)
        left = await world.running()
        await world.replenish()
        instance = await make(world, backend, world.order(order.offer))

        assert left == frozenset(), "a provision without capacity left a machine running"
        assert await world.running() == {instance.id}, "provision does not work again once there is capacity"

    async def test_quota_is_named(self, world: World, backend: Backend, order: Order) -> None:
        """With the quota used up ``provision`` raises ``QuotaError`` and leaves nothing.

        Troubleshooting: a quota is not a lack of capacity: another offer of the region would fail too.
        """
        await power(world, SupportsQuota).use_up_quota()
        await _fails(world, lambda: backend.provision(order), QuotaError)

        assert await world.running() == frozenset(), "a provision without quota left a machine running"

    async def test_throttling_is_named(self, world: World, backend: Backend, order: Order) -> None:
        """Asked to be left alone, ``provision`` raises ``ThrottledError`` with a wait; afterwards the order works.

        Troubleshooting: bound the SDK's own retries; the host waits and tries the same token.
        """
        busy = power(world, SupportsThrottle)
        await busy.throttle()
        error = await _fails(world, lambda: backend.provision(order), ThrottledError)
        await busy.relent()
        instance = await make(world, backend, order)

        assert isinstance(error, ThrottledError)
        assert error.retry_after_s > 0, f"retry_after_s is {error.retry_after_s}: the host would not wait"
        assert await world.running() == {instance.id}, "the retry after a throttling left two machines"

    @pytest.mark.parametrize("method", _METHODS)
    async def test_refused_credentials_are_named(
        self, world: World, backend: Backend, offer: Offer, instance: Instance, method: str
    ) -> None:
        """Where our credentials are refused every method raises ``CredentialsError``, and machines run on.

        Troubleshooting: refused is not absent: ``find`` may not say None, nor ``terminate`` that it is done.
        """
        call = _call(method, world, backend, world.order(offer), instance)
        await world.refuse_credentials()
        await _fails(world, call, CredentialsError)
        await world.accept_credentials()

        assert await world.running() == {instance.id}, f"{method} with refused credentials changed what runs"

    @pytest.mark.parametrize("method", _METHODS)
    async def test_silence_is_named(
        self, world: World, backend: Backend, offer: Offer, instance: Instance, method: str
    ) -> None:
        """Where nothing answers every method raises ``UnavailableError``: silence is neither no nor done.

        Troubleshooting: timeouts, resets and the cloud's own 5xx; conclude nothing from them, least of all a None.
        """
        call = _call(method, world, backend, world.order(offer), instance)
        await world.go_down()
        await _fails(world, call, UnavailableError)
        await world.come_back()

        assert instance.id in await world.running(), f"{method} in silence ended a machine"

    @pytest.mark.parametrize("method", _METHODS)
    async def test_failures_keep_their_cause(
        self, world: World, backend: Backend, offer: Offer, instance: Instance, method: str
    ) -> None:
        """``__cause__`` of a failure is the SDK's own error.

        Troubleshooting: translate in one place, with ``raise … from error``.
        """
        call = _call(method, world, backend, world.order(offer), instance)
        await world.go_down()
        error = await _fails(world, call, BackendError)

        assert error.__cause__ is not None, f"{method} raised {error!r} from nothing"

    @pytest.mark.parametrize("method", _METHODS)
    async def test_failures_name_the_backend(
        self, world: World, backend: Backend, offer: Offer, instance: Instance, method: str
    ) -> None:
        """A failure's message names the backend as the operator does.

        Troubleshooting: begin each message with ``backend {self.name}``; an operator has several.
        """
        call = _call(method, world, backend, world.order(offer), instance)
        await world.go_down()
        error = await _fails(world, call, BackendError)

        assert backend.name in str(error), f"{method} does not say which backend failed: {error}"

    async def test_secrets_stay_out_of_text(
        self, world: World, backend: Backend, order: Order, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No credential and no private key appears in a repr, a message with its causes, or a log line of any level.

        Troubleshooting: leave the SDK's message out of yours where it may quote a request; ``field(repr=False)``.
        """
        with caplog.at_level(logging.DEBUG):
            instance = await make(world, backend, order)
            errors = await _go_through_every_failure(world, backend, order, instance)
            await end(world, backend, instance.id)
        texts = [("repr(backend)", repr(backend)), ("a log line", caplog.text)]
        texts += [(f"the message of a {type(error).__name__}", _told(error)) for error in errors]

        leaks = {where for where, said in texts if any(secret in said for secret in _secrets(world, order))}
        assert not leaks, f"a secret appears in {' and in '.join(sorted(leaks))}"


def _call(
    method: str, world: World, backend: Backend, order: Order, instance: Instance
) -> Callable[[], Awaitable[object]]:
    async def usage() -> object:
        # Leases that are metered together may share one listing, which may have been read just before.
        await a_moment(world)
        return await backend.usage(instance.id)

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "offers": backend.offers,
        "provision": lambda: backend.provision(order),
        "find": lambda: backend.find(instance.token),
        "list_owned": backend.list_owned,
        "usage": usage,
        "terminate": lambda: backend.terminate(instance.id),
    }
    return calls[method]


async def _fails(world: World, call: Callable[[], Awaitable[object]], kind: type[BackendError]) -> BackendError:
    with pytest.raises(kind) as caught:
        async with patience(world, "fail"):
            await call()
    return caught.value


async def _go_through_every_failure(
    world: World, backend: Backend, order: Order, instance: Instance
) -> list[BackendError]:
    other = world.order(order.offer)
    await world.exhaust()
    errors = [await _fails(world, lambda: backend.provision(other), BackendError)]
    await world.replenish()
    for spoil, mend in ((world.refuse_credentials, world.accept_credentials), (world.go_down, world.come_back)):
        await spoil()
        calls = [_call(method, world, backend, other, instance) for method in _METHODS]
        errors += [await _fails(world, call, BackendError) for call in calls]
        await mend()
    return errors


def _told(error: BaseException) -> str:
    # What a log shows of it: causes, contexts and notes included.
    return "".join(traceback.format_exception(error))


def _secrets(world: World, order: Order) -> list[str]:
    rotation = order.access.rotation
    files = (order.access.host_key_private, rotation.host_key_private, rotation.login_key_private)
    keys = [line for file in files for line in file.splitlines() if not line.startswith("-----")]
    return [*world.secrets(), *keys]
