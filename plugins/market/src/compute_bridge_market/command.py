"""``compute-bridge market``: found, serve and inspect a market."""

import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import click

from compute_bridge.api import CommandContext
from compute_bridge.ports.errors import BootError
from compute_bridge.wire.signing import fingerprint
from compute_bridge_market.book import open_book
from compute_bridge_market.founding import Founding, write_market
from compute_bridge_market.ledger import TrialBalance, trial_balance
from compute_bridge_market.market import make_market
from compute_bridge_market.module import require_same_handshake, write_handshake
from compute_bridge_market.opening import OpenedFile, open_file, settle_handshake
from compute_bridge_market.serve import Server

_config = click.option(
    "--config", type=click.Path(path_type=Path), default="market.toml", show_default=True, help="The market's file."
)


def market(context: CommandContext) -> int:
    """Run ``compute-bridge market``."""
    arguments = list(context.arguments)
    return int(_market.main(arguments, "compute-bridge market", standalone_mode=False, obj=context) or 0)


@click.group(name="market", help="Found, serve and inspect a market in which bridges compete.")
def _market() -> None: ...


# --- init -----------------------------------------------------------------------------------------


@_market.command(short_help="Make a new market in a folder.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="bridge-β", show_default=True, help="What people call the coalition.")
@click.option("--currency", default="USD", show_default=True, help="The one currency of all rates.")
@click.option("--cadence-ms", default=1000, show_default=True, help="Milliseconds from round to round.")
@click.option("--requester-bps", default=0, show_default=True, help="Fee on the requester, hundredths of a percent.")
@click.option("--provider-bps", default=0, show_default=True, help="Fee on the provider, likewise.")
@click.option(
    "--development-root",
    "anchors",
    type=(str, click.Path(exists=True, dir_okay=False)),
    multiple=True,
    metavar="NAME FILE",
    help="Allow the development attester under this root (DER); it proves nothing about hardware.",
)
@click.option(
    "--account",
    "accounts",
    type=(str, str, int),
    multiple=True,
    metavar="NAME KEY CREDIT",
    help="An account: its name, its public key (64 hex digits), the micros it may owe.",
)
@click.pass_obj
def init(context: CommandContext, /, folder: Path, **terms: Any) -> int:
    """Write keys, market.toml and the handshake file into FOLDER, which may hold no market yet."""
    path = write_market(folder, Founding(**terms))
    opened = open_file(context, path)
    settle_handshake(opened)
    context.say(f"{path}: written; next: compute-bridge market serve --config {path}")
    context.say(f"{opened.handshake_path}: hand this to whoever takes part, and with it the coalition's fingerprint:")
    context.say(f"fingerprint {opened.module.domain.coalition.hex()}")
    return 0


# --- handshake ------------------------------------------------------------------------------------


@_market.command(short_help="Write or check the page that participants are given.")
@_config
@click.option("--replace", is_flag=True, help="Write it anew, though it then is another coalition's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def handshake(context: CommandContext, /, config: Path, *, replace: bool, as_json: bool) -> int:
    """Write the handshake file if it is missing, or check that it says what market.toml says."""
    opened = open_file(context, config)
    if replace:
        write_handshake(opened.handshake_path, opened.module.handshake)
    else:
        settle_handshake(opened)
    told = _described(opened)
    if as_json:
        context.say(json.dumps(told))
    else:
        for name, value in told.items():
            context.say(f"{name} {value}")
    return 0


def _described(opened: OpenedFile) -> dict[str, str]:
    module = opened.module
    return {
        "file": str(opened.handshake_path),
        "name": module.handshake.coalition.name,
        "fingerprint": module.domain.coalition.hex(),
        "module": module.domain.module.hex(),
        "config": fingerprint(module.config).hex(),
        "signing_key": module.key.hex(),
    }


# --- serve ----------------------------------------------------------------------------------------


@_market.command(short_help="Serve the market until told to stop.")
@_config
@click.option(
    "--log-level",
    "level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least that is logged, on stderr.",
)
@click.pass_obj
def serve(context: CommandContext, /, config: Path, level: str) -> int:
    """Serve the market until it is told to stop; it may be stopped or killed at any moment."""
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    opened = open_file(context, config)
    if settle_handshake(opened):
        context.say(f"{opened.handshake_path}: written; hand it to whoever takes part")
    anyio.run(_serve, context, opened)
    return 0


async def _serve(context: CommandContext, opened: OpenedFile) -> None:
    # Outermost: a second signal, as timeout sends, must not break the closing that the first one asked for.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_told, signals, tasks.cancel_scope)
            await _serve_until_cancelled(context, opened)


async def _serve_until_cancelled(context: CommandContext, opened: OpenedFile) -> None:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(context.open_network(opened.file.network.table, opened.path.parent))
        book = await stack.enter_async_context(open_book(opened.book_path, opened.module.domain.coalition))
        market_ = make_market(opened.module, network, book, verifier=context.quote_verifier(), clock=context.clock)

        def ready() -> None:
            name, coalition = opened.module.handshake.coalition.name, opened.module.domain.coalition.hex()
            context.say(f"serving {name}, coalition {coalition}, from tick {market_.almanac.now}")

        await Server(market_, context.clock).run(ready=ready)


async def _until_told(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


# --- ledger ---------------------------------------------------------------------------------------


@_market.command(short_help="Add the books up.")
@_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def ledger(context: CommandContext, /, config: Path, *, as_json: bool) -> int:
    """Add every entry of the books up anew and show the balances; their sum is 0, or the books are damaged."""
    opened = open_file(context, config)
    require_same_handshake(opened.handshake_path, opened.module.handshake)
    if not opened.book_path.exists():
        raise BootError(f"ledger.file: {opened.book_path} is not there; it is made by the first 'market serve'")
    trial = anyio.run(_read_books, opened)
    currency = opened.module.config.currency
    if as_json:
        balances = dict(trial.balances)
        context.say(
            json.dumps({"currency": currency, "entries": trial.entries, "total": trial.total, "balances": balances})
        )
        return 0
    names = {account.key.hex(): account.name for account in opened.module.accounts.values()}
    for account, amount in trial.balances:
        context.say(f"{amount:>20} micros {currency}  {_named(account, names)}")
    context.say(f"{trial.total:>20} in all, from {trial.entries} entries")
    return 0


async def _read_books(opened: OpenedFile) -> TrialBalance:
    async with open_book(opened.book_path, opened.module.domain.coalition) as book:
        return await book.run(trial_balance)


def _named(account: str, names: dict[str, str]) -> str:
    kind, _, key = account.partition("/")
    return f"{kind}/{names.get(key, key[:12])}" if key else kind
