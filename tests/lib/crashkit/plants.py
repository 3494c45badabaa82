"""Faults planted in a bridge, so that the matrix itself can be seen to fail: each breaks one promise of a lease."""

from collections.abc import Callable
from secrets import token_bytes, token_hex

from attrs import evolve, frozen

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.host.lease import Lease
from compute_bridge.host.lease_run import RunningLease
from compute_bridge.host.provider import Provider
from compute_bridge.model import channels
from compute_bridge.model.ids import Token
from compute_bridge.model.units import Milliseconds


def forgets_attempts() -> None:
    """After a restart, make a new attempt though an older one may have made its machine."""
    Lease._interrupted = lambda _lease, _body: None  # type: ignore[assignment, method-assign]


def reads_on_first() -> None:
    """Move the cursor past a grant before the grant is journalled."""
    take = Provider._take

    async def hasty(provider, grant, tasks):
        tail = await provider.tools.market.network.tail(channels.GRANT_STREAM)
        await provider._done(channels.GRANT_STREAM, tail)
        await take(provider, grant, tasks)

    Provider._take = hasty  # type: ignore[method-assign]


def bills_the_whole() -> None:
    """Bill the whole duration, however short the machine lived."""
    end = RunningLease.end

    async def greedy(running, reason, facts):
        return evolve(await end(running, reason, facts), billable_ms=Milliseconds(running.duration_ms))

    RunningLease.end = greedy  # type: ignore[method-assign]


def forgets_tokens() -> None:
    """Make each machine in a cloud under a token and a name of its own, whatever the order says."""
    provision = CloudBackend.provision

    async def forgetful(backend, order):
        named = evolve(order.ownership, name=f"cb-{token_hex(12)}")
        made = await provision(backend, evolve(order, token=Token(token_bytes(32)), ownership=named))
        return evolve(made, token=order.token, ownership=order.ownership)

    CloudBackend.provision = forgetful  # type: ignore[method-assign]


@frozen
class Plant:
    """One fault, the plan that meets it, and how the invariant begins that must turn red."""

    sow: Callable[[], None]
    plan: str
    turns_red: str


PLANTS = {
    "forgets-attempts": Plant(forgets_attempts, "released|after backend provision#1@0", "no double"),
    # The next boot itself sees that the cursor is past what the journal holds, and refuses to go on.
    "reads-on-first": Plant(reads_on_first, "released|before record granted#1@0", "the schedule failed"),
    "bills-the-whole": Plant(bills_the_whole, "released|before record granted#1@0", "billed within life"),
}
"""Every fault in the host, by its name."""

FORGETS_TOKENS = "forgets-tokens"
EVERY_PLANT = PLANTS | {FORGETS_TOKENS: Plant(forgets_tokens, "released|after wire create#1@0", "no double")}
"""Those of a cloud's plugin also, of which the story is to be played on that cloud."""
