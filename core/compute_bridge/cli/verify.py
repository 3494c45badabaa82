"""``compute-bridge verify``: check signed records, trusting nobody."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import json_option
from compute_bridge.cli.request_report import DEVELOPMENT
from compute_bridge.cli.requester_setup import Setup, requester_option, run
from compute_bridge.host.audit import Auditor
from compute_bridge.host.audit_report import AuditReport
from compute_bridge.host.requester_state import accepted, find_handle, load_request
from compute_bridge.model.ids import ID_BYTES, Fingerprint, GrantId
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.strategy import ClearingRule

Audit = Callable[[Auditor], Awaitable[AuditReport]]


def verify(context: CommandContext) -> int:
    """Run ``compute-bridge verify``."""
    return int(_verify.main(context.arguments, "compute-bridge verify", standalone_mode=False, obj=context) or 0)


@click.group(name="verify")
def _verify() -> None:
    """Check a record of the market against the others; each check is named, and trusts nobody."""


class Id(click.ParamType[bytes]):
    """A whole id in hex."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes of 64 hex digits."""
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if len(raw) != ID_BYTES:
            self.fail(
                f"{str(value)[:80]!r} is not {2 * ID_BYTES} hex digits; 'request status --json' shows ids", param, ctx
            )
        return raw


@_verify.command()
@click.argument("round_", metavar="ROUND", type=click.IntRange(1))
@requester_option
@json_option
@click.pass_obj
def clearing(context: CommandContext, round_: int, config: Path, *, as_json: bool) -> int:
    """Compute round ROUND again with the installed rule: inputs, beacon, awards, verdicts, grants."""
    setup = Setup.read(context, config)
    rule = _rule(setup)
    return _audit(setup, lambda auditor: auditor.clearing(round_, rule), as_json=as_json)


@_verify.command()
@click.argument("id_", metavar="GRANT", type=Id())
@requester_option
@json_option
@click.pass_obj
def grant(context: CommandContext, id_: bytes, config: Path, *, as_json: bool) -> int:
    """Check a grant against its request, its round and its provider's card and quote."""
    setup = Setup.read(context, config)
    return _audit(setup, lambda auditor: auditor.grant(GrantId(id_)), as_json=as_json)


@_verify.command()
@click.argument("id_", metavar="HASH", type=Id())
@requester_option
@json_option
@click.pass_obj
def card(context: CommandContext, id_: bytes, config: Path, *, as_json: bool) -> int:
    """Check an admitted card: certificate, epoch, binding, challenge and quote."""
    setup = Setup.read(context, config)
    return _audit(setup, lambda auditor: auditor.card(Fingerprint(id_)), as_json=as_json)


@_verify.command()
@click.argument("prefix", metavar="REQUEST")
@requester_option
@json_option
@click.pass_obj
def receipt(context: CommandContext, prefix: str, config: Path, *, as_json: bool) -> int:
    """Check a receipt of yours again, and the winner behind it, by the first digits of its request."""
    setup = Setup.read(context, config)
    store = setup.store

    async def audit(auditor: Auditor) -> AuditReport:
        kept = await load_request(store, auditor.market.domain, await find_handle(store, prefix))
        return await auditor.receipt(kept, accepted(kept, auditor.market.config.signing_key))

    return _audit(setup, audit, as_json=as_json)


@_verify.command()
@click.argument("id_", metavar="GRANT", type=Id())
@requester_option
@json_option
@click.pass_obj
def log(context: CommandContext, id_: bytes, config: Path, *, as_json: bool) -> int:
    """Check the usage log of a grant: who signed it, and that it bills no more than ran and was granted."""
    setup = Setup.read(context, config)
    return _audit(setup, lambda auditor: auditor.log(GrantId(id_)), as_json=as_json)


@_verify.command()
@click.argument("id_", metavar="GRANT", type=Id())
@requester_option
@json_option
@click.pass_obj
def ledger(context: CommandContext, id_: bytes, config: Path, *, as_json: bool) -> int:
    """Compute the settlement of a grant again, to the micro, and compare statement and claim."""
    setup = Setup.read(context, config)
    return _audit(setup, lambda auditor: auditor.ledger(GrantId(id_)), as_json=as_json)


# --- parts --------------------------------------------------------------------------------------


def _rule(setup: Setup) -> ClearingRule:
    context = setup.context
    kind = context.kind("clearing_rules", setup.handshake.compute.rule)
    settings = context.structure(setup.file.clearing.settings, kind.config, "clearing")
    rule: ClearingRule = kind.open(settings)
    return rule


def _audit(setup: Setup, audit: Audit, *, as_json: bool) -> int:
    async def opened() -> AuditReport:
        async with setup.auditor() as auditor:
            return await audit(auditor)

    report = run(opened)
    say(json.dumps(told(report), indent=2) if as_json else "\n".join(lines(report)))
    if report.holds:
        return Exit.OK
    return Exit.ATTESTATION if any(check.name == "quote" for check in report.faults) else Exit.UNVERIFIED


def told(report: AuditReport) -> dict[str, Any]:
    """Return a report as plain data."""
    checks = [{"name": check.name, "fault": check.fault} for check in report.checks]
    return {"subject": report.subject, "verified": report.holds, "checks": checks, "facts": report.facts}


def lines(report: AuditReport) -> list[str]:
    """Return a report line by line."""
    found = [f"{report.subject}: {'verified' if report.holds else 'NOT VERIFIED'}"]
    found += [
        f"  {'FAULT' if check.fault else 'ok   '} {check.name}{check.fault and ': ' + check.fault}"
        for check in report.checks
    ]
    if report.facts.get("development_attestation"):
        found.append(f"  {DEVELOPMENT}")
    return found
