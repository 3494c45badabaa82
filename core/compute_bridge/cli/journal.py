"""``compute-bridge journal``: read, check, mend or export what the bridge has recorded."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import attrs
import click

from compute_bridge.adapters.boot_file import LoadedBoot, load_boot
from compute_bridge.adapters.journal_file import Filter, read_journal
from compute_bridge.adapters.sqlite_journal import JOURNAL
from compute_bridge.cli.context import load_plugins, say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import JournalEvent

SHOWN = 50


def journal(context: CommandContext) -> int:
    """Run ``compute-bridge journal``."""
    return int(_journal.main(context.arguments, "compute-bridge journal", standalone_mode=False, obj=context) or 0)


@click.group(name="journal", help="Read, check, mend or export what the bridge has recorded.")
def _journal() -> None: ...


def _path(config: Path, flags: Mapping[str, str]) -> Path:
    return Path(load_boot(config, flags=flags).boot.bridge.state_dir) / JOURNAL


def _hex(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value.strip("0123456789abcdef") or len(value) > 128:
        raise click.BadParameter("give the first hex digits of a grant's id")
    return value


# --- show -----------------------------------------------------------------------------------------


@_journal.command(short_help="Show events, the newest last.")
@config_option
@set_option
@click.option("--lease", default="", metavar="PREFIX", callback=_hex, help="Only of leases whose id begins with it.")
@click.option("--kind", metavar="KIND", help="Only events of this kind.")
@click.option("--after", type=click.IntRange(0), metavar="SEQUENCE", help="The first ones after it, not the last ones.")
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="At most so many.")
@json_option
def show(
    config: Path,
    flags: Mapping[str, str],
    *,
    lease: str,
    kind: str | None,
    after: int | None,
    limit: int,
    as_json: bool,
) -> int:
    """Show events, the newest last; a running bridge is not disturbed.

    Secrets are not in the journal; what leads to a requester's machine is withheld.
    """
    from compute_bridge.host.journal_view import view

    with read_journal(_path(config, flags)) as file:
        events = [view(event) for event in file.find(Filter(lease, kind, after), limit)]
    if as_json:
        say(json.dumps(events, indent=2))
        return Exit.OK
    for event in events:
        say(_line(event))
    return Exit.OK


def _line(event: Mapping[str, Any]) -> str:
    from compute_bridge.host.journal_view import flat

    at = datetime.fromtimestamp(event["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    state = f" [{event['state']}]" if event["state"] else ""
    lease = event["lease"][:12] or "bridge"
    facts = " ".join(f"{key}={json.dumps(value)}" for key, value in flat(event["body"], "") if key)
    body = facts or json.dumps(event["body"])
    return f"{event['sequence']:>6}  {at}  {lease}  {event['kind']}{state}  {body}"


# --- verify, rebuild ------------------------------------------------------------------------------


@_journal.command(short_help="Check pages, chain, blobs and tables.")
@config_option
@set_option
@json_option
def verify(config: Path, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Check SQLite's pages, every event's hash, every blob and the tables; a running bridge is not disturbed."""
    path = _path(config, flags)
    try:
        with read_journal(path) as file:
            found = file.verify()
    except JournalError as error:
        if not as_json:
            raise
        say(json.dumps({"journal": str(path), "holds": False, "error": str(error)}))
        return Exit.ERROR
    if as_json:
        say(json.dumps({"journal": str(path), "holds": True, **attrs.asdict(found), "head": found.head.hex()}))
    else:
        say(f"journal {path}: {found.events} events hold, and so do {found.blobs} blobs and {found.leases} leases")
        say(f"head {found.events} {found.head.hex()}, schema version {found.schema}")
    return Exit.OK


@_journal.command(short_help="Make the tables anew from the events.")
@config_option
@set_option
@json_option
def rebuild(config: Path, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Make the tables anew from the events, and say what differed; no bridge may hold the journal.

    Events are never changed, so nothing is rebuilt from a chain that does not hold.
    """
    import anyio

    path = _path(config, flags)
    mended = anyio.run(_rebuild, path)
    if as_json:
        say(json.dumps([{**attrs.asdict(one), "lease": one.lease.hex()} for one in mended]))
        return Exit.OK
    for one in mended:
        say(f"lease {one.lease.hex()}: was {one.before or 'missing'}, is {one.after or 'gone'}")
    say(f"journal {path}: {len(mended)} leases differed; the tables are what the events say")
    return Exit.OK


async def _rebuild(path: Path) -> Any:
    import anyio

    from compute_bridge.adapters.clock import SystemClock
    from compute_bridge.adapters.sqlite_journal import open_sqlite_journal

    async with open_sqlite_journal(path, SystemClock()) as opened:
        await anyio.to_thread.run_sync(_check_chain, path)
        mended = await opened.rebuild()
        await opened.verify()
    return mended


def _check_chain(path: Path) -> None:
    with read_journal(path) as file:
        file.check_chain()


# --- export ---------------------------------------------------------------------------------------


@_journal.command(short_help="Write every event as a line of JSON.")
@config_option
@set_option
@click.option("--output", type=click.Path(path_type=Path), help="A new file, instead of stdout; its mode is 0600.")
def export(config: Path, flags: Mapping[str, str], *, output: Path | None) -> int:
    """Write every event as one line of JSON, bytes as hex digits, so that an auditor can check the chain.

    It holds sealed envelopes, receipts and whole grants: give it to who may have them.
    """
    with read_journal(_path(config, flags)) as file, _target(output) as target:
        for event, blob in file.export():
            target.write(json.dumps(_exported(event, blob)) + "\n")
    return Exit.OK


def _exported(event: JournalEvent, blob: bytes | None) -> dict[str, Any]:
    fields = {**attrs.asdict(event), "hash": event.hash, "blob": blob}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


@contextmanager
def _target(output: Path | None) -> Iterator[TextIO]:
    """Yield where to write to; a file that was not written to its end is taken away again."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.UsageError(f"--output {output}: {error.strerror}; name a new file in a folder of yours") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        output.unlink(missing_ok=True)
        raise


# --- accept-loss ----------------------------------------------------------------------------------


@_journal.command(short_help="Go on with a journal that is behind the market.")
@config_option
@set_option
@click.option("--yes", is_flag=True, help="Write it into the journal. Without it nothing is changed.")
@click.pass_obj
def accept_loss(context: CommandContext, config: Path, flags: Mapping[str, str], *, yes: bool) -> int:
    """Show what the market holds of us and the journal lacks, and with --yes acknowledge exactly that.

    For when the newer journal is really lost. No bridge may hold the journal.
    """
    import anyio

    loaded = load_boot(config, flags=flags)
    lines = anyio.run(_accept_loss, context, loaded, yes)
    for line in lines:
        say(f"{'accepted' if yes else 'lacking'}: {line}")
    if not lines:
        say("the journal lacks nothing that the market holds of us")
    elif not yes:
        say("nothing was changed; run it again with --yes if the newer journal is really lost")
        return Exit.ERROR
    return Exit.OK


async def _accept_loss(context: CommandContext, loaded: LoadedBoot, yes: bool) -> tuple[str, ...]:
    import anyio

    from compute_bridge.adapters.boot_inputs import read_handshake, read_seed
    from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
    from compute_bridge.host.boots import known_boots
    from compute_bridge.host.identity import Identity
    from compute_bridge.host.journal_check import accept_loss as accept
    from compute_bridge.host.journal_check import find_loss
    from compute_bridge.host.market import Market, market_domain

    boot, run = loaded.boot, anyio.to_thread.run_sync
    handshake = await run(read_handshake, Path(boot.coalition.handshake), boot.coalition.fingerprint)
    seed = read_seed("bridge.root_key", await run(_root_key, loaded))
    identity = Identity.from_root_seed(seed, market_domain(handshake))
    # Compared with its pin before it is imported, as by a boot: the root key is in this process.
    wanted = [("networks", boot.network.kind)]
    await run(partial(load_plugins, wanted, pins=boot.plugins, named_at=loaded.named_at))
    table = {"kind": boot.network.kind, **boot.network.settings}
    path = Path(boot.bridge.state_dir) / JOURNAL
    async with (
        open_sqlite_journal(path, context.clock) as opened,
        context.open_network(table, loaded.folder) as network,
    ):
        await opened.verify()
        boots = await known_boots(opened, identity)
        loss = await find_loss(Market(network, handshake), opened, identity, boots)
        if yes and not loss.is_none:
            await accept(opened, loss)
    return loss.lines


def _root_key(loaded: LoadedBoot) -> bytes:
    from compute_bridge.adapters.boot_file import read_named_secret

    return read_named_secret(loaded, {}, loaded.boot.bridge.root_key)
