"""The play: one whole lease, from the first key to the last verified record."""

from collections.abc import Callable

import anyio
from attrs import field, frozen

from compute_bridge.api import CommandContext
from compute_bridge_demo import scene
from compute_bridge_demo.account import Account
from compute_bridge_demo.cast import Cast, SshPrograms
from compute_bridge_demo.child import Theatre
from compute_bridge_demo.lease import Lease
from compute_bridge_demo.market_view import MarketView, domain_of

NETWORK = {"kind": "sqlite", "path": "market/network.db"}


@frozen
class Options:
    """What the command line asks of the play. ``duration`` is as ``request submit`` takes it."""

    duration: str
    programs: SshPrograms
    tell: Callable[[str], None] = field(repr=False)


async def play(context: CommandContext, theatre: Theatre, options: Options) -> Account:
    """Play one whole lease in ``theatre`` and return the account of it.

    :raises DemoError: if a role does not do its part; bundled in a group when it ended too early.
    """
    async with anyio.create_task_group() as watchers:
        cast = Cast(theatre, context, options.programs, watchers, options.tell)
        account = await _play(cast, options)
        watchers.cancel_scope.cancel()
    return account


async def _play(cast: Cast, options: Options) -> Account:
    racks = scene.draw_racks()
    for rack in racks:
        await cast.start_rack_host(rack)
    await cast.make_attester()
    handshake = await cast.found_market()
    domain = domain_of(handshake)
    await cast.start_market()
    for rack in racks:
        await cast.start_bridge(rack, domain)
    async with cast.context.open_network(NETWORK, cast.folder) as network:
        view = MarketView(network, domain, handshake.compute.signing_key)
        await cast.await_market(view)
        await cast.await_bridges(view)
        lease = Lease(cast, view, await cast.write_requester(domain))
        return await lease.play(options.duration)
