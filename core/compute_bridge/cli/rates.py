"""``compute-bridge rates``: what is asked, what the policy would have asked, and what was not sold for its cost."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.adapters.status_socket import SOCKET, NotRunningError, ask
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.ports.command import CommandContext

# A journal of years is read from its index, and still takes its time.
PATIENCE_S = 60.0
_DAY_MS = 86_400_000


def rates(context: CommandContext) -> int:
    """Run ``compute-bridge rates``."""
    return int(_rates.main(context.arguments, "compute-bridge rates", standalone_mode=False) or 0)


@click.command(name="rates")
@config_option
@set_option
@click.option("--since", type=click.IntRange(min=0), default=7, show_default=True, help="Days back; 0 is everything.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Most lines, the latest.")
@json_option
def _rates(config: Path, flags: Mapping[str, str], *, since: int, limit: int, as_json: bool) -> int:
    """Show the rates in force, what the policy asked for and was refused, and the ledger of both over time.

    Asks the running bridge; where none runs, reads the ledger in its journal.
    """
    state_dir = Path(load_boot(config, flags=flags).boot.bridge.state_dir)
    since_ms = _since_ms(since)
    try:
        told = ask(state_dir / SOCKET, {"ask": "rates", "since_ms": since_ms, "limit": limit}, timeout_s=PATIENCE_S)
    except NotRunningError:
        told = {"ledger": _from_journal(state_dir, since_ms, limit)}
    if as_json:
        say(json.dumps(told, indent=2))
        return Exit.OK
    for line in _lines(told):
        say(line)
    return Exit.OK


def _since_ms(days: int) -> int:
    from compute_bridge.adapters.clock import SystemClock

    return max(0, SystemClock().utc_ms() - days * _DAY_MS) if days else 0


def _from_journal(state_dir: Path, since_ms: int, limit: int) -> list[dict[str, Any]]:
    import anyio
    from attrs import asdict

    from compute_bridge.adapters.clock import SystemClock
    from compute_bridge.adapters.sqlite_journal import JOURNAL, open_sqlite_journal
    from compute_bridge.host.counterfactual import read_ledger

    async def read() -> list[dict[str, Any]]:
        async with open_sqlite_journal(state_dir / JOURNAL, SystemClock()) as journal:
            return [asdict(line) for line in await read_ledger(journal, since_ms=since_ms, limit=limit)]

    return anyio.run(read)


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    if "in_force" in told:
        yield from _tables(told)
    else:
        yield "no bridge runs, so no rate is in force; this is the ledger of its journal"
    yield "ledger:" if told["ledger"] else "ledger: nothing was refused"
    for line in told["ledger"]:
        at = datetime.fromtimestamp(line["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        reason = f" [{line['reason']}]" if line["reason"] else ""
        times = f" ({line['times']} changes)" if line["times"] > 1 else ""
        yield f"  {at}  {line['event']}{reason}  {line['where']}: {line['text']}{times}"


def _tables(told: Mapping[str, Any]) -> Iterator[str]:
    in_force = told["in_force"]
    yield (
        f"in force: {len(in_force['rows'])} of {len(told['asked']['rows'])} rows asked, fingerprint "
        + (in_force["fingerprint"][:12])
    )
    for row in in_force["rows"]:
        nanos = ", ".join(f"{unit} {value}" for unit, value in row["units"].items() if value)
        yield f"  {_where(row)}: {nanos} nanos {in_force['currency']}"
    for row in told["refused"]:
        what = "below cost, as allowed" if row["allowed"] else "refused"
        yield f"  {_where(row)}: {what} [{row['reason']}] {row['detail']}"
    for one in told["quarantined"]:
        yield f"  quarantined {one['backend']}/{one['offer'] or '*'} [{one['reason']}] {one['detail']}"


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['region']}/{row['posture']}/{row['band']}"
