"""``compute-bridge request``: ask the market for a machine, then log in to it."""

import json
import secrets
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.secrets import write_secret
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import json_option
from compute_bridge.cli.quantities import DURATION
from compute_bridge.cli.request_report import access_lines, status_lines, told_access, told_status
from compute_bridge.cli.request_terms import Asked, asked, terms_options
from compute_bridge.cli.requester_setup import SEED_BYTES, Setup, requester_option, run, within
from compute_bridge.host.requester import Requester
from compute_bridge.host.requester_state import Access, RequestHandle, find_handle
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.ids import short
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.command import CommandContext
from compute_bridge.wire.signing import public_key

T = TypeVar("T")

timeout_option = click.option(
    "--timeout", type=DURATION, default="10m", show_default=True, help="How long to wait for the market or the machine."
)


def request(context: CommandContext) -> int:
    """Run ``compute-bridge request``."""
    return int(_request.main(context.arguments, "compute-bridge request", standalone_mode=False, obj=context) or 0)


@click.group(name="request", help="Ask the market for a machine, then log in to it.")
def _request() -> None: ...


@_request.command()
@terms_options
@requester_option
@timeout_option
@json_option
@click.option("--wait", is_flag=True, help="Stay until the machine is there, as 'request receipt' does.")
@click.pass_obj
def submit(context: CommandContext, /, config: Path, timeout: int, *, as_json: bool, wait: bool, **terms: Any) -> int:
    """Ask for a machine; prints the id of the request, by its first digits the other commands know it."""
    setup, wanted = Setup.read(context, config), asked(**terms)
    handle = _call(setup, partial(_submit, wanted=wanted), timeout, "answer to the request")
    if wait:
        # Apart from the one JSON value, and before the wait: whoever gives up waiting needs the id.
        line = f"request {handle.id.hex()}: admitted; waiting for a winner and its receipt"
        click.echo(line, err=as_json)
        return _receive(setup, handle, timeout, as_json=as_json)
    return _tell({"request_id": handle.id.hex(), "state": "admitted"}, [handle.id.hex()], as_json=as_json)


@_request.command()
@click.argument("id_", metavar="ID")
@requester_option
@timeout_option
@json_option
@click.pass_obj
def receipt(context: CommandContext, id_: str, config: Path, timeout: int, *, as_json: bool) -> int:
    """Verify who won, seal the workload to it and wait for its receipt; or show the one that came."""
    setup = Setup.read(context, config)
    return _receive(setup, _find(setup, id_), timeout, as_json=as_json)


@_request.command()
@click.argument("id_", metavar="ID")
@requester_option
@timeout_option
@json_option
@click.pass_obj
def status(context: CommandContext, id_: str, config: Path, timeout: int, *, as_json: bool) -> int:
    """Tell where a request stands, how each bid fared, and what was paid."""
    setup = Setup.read(context, config)
    handle = _find(setup, id_)
    found = _call(setup, lambda requester: requester.status(handle), timeout, "status")
    return _tell(told_status(found), status_lines(found), as_json=as_json)


@_request.command("list")
@requester_option
@json_option
@click.pass_obj
def list_(context: CommandContext, config: Path, *, as_json: bool) -> int:
    """List the requests that are kept here."""
    found = [one.hex() for one in run(Setup.read(context, config).store.requests)]
    return _tell(found, found, as_json=as_json)


@_request.command(context_settings={"ignore_unknown_options": True})
@click.argument("id_", metavar="ID")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@requester_option
@timeout_option
@json_option
@click.pass_obj
def ssh(
    context: CommandContext, id_: str, command: tuple[str, ...], config: Path, timeout: int, *, as_json: bool
) -> int:
    """Log in with your own ssh, the receipt's host key pinned; ends with its exit status.

    Write a command for the machine after two dashes: compute-bridge request ssh ID -- uname -a
    """
    setup = Setup.read(context, config)
    handle = _find(setup, id_)
    argv: list[str] = _call(setup, lambda requester: requester.ssh_command(handle, command), timeout, "receipt")
    return _run_ssh(argv, as_json=as_json)


@_request.command()
@click.argument("id_", metavar="ID")
@requester_option
@timeout_option
@json_option
@click.pass_obj
def release(context: CommandContext, id_: str, config: Path, timeout: int, *, as_json: bool) -> int:
    """Give the machine back at once; only what was used is charged."""
    return _control(context, config, id_, ControlAction.RELEASE, timeout, as_json=as_json)


@_request.command()
@click.argument("id_", metavar="ID")
@click.argument("more", type=DURATION)
@requester_option
@timeout_option
@json_option
@click.pass_obj
def extend(context: CommandContext, id_: str, more: int, config: Path, timeout: int, *, as_json: bool) -> int:
    """Ask for the machine for MORE time, such as 10m."""
    return _control(context, config, id_, ControlAction.EXTEND, timeout, as_json=as_json, extend_ms=more)


@_request.command()
@click.argument("id_", metavar="ID")
@click.argument("note")
@requester_option
@timeout_option
@json_option
@click.pass_obj
def dispute(context: CommandContext, id_: str, note: str, config: Path, timeout: int, *, as_json: bool) -> int:
    """Say on the record, in a NOTE for people, what is wrong with the lease."""
    return _control(context, config, id_, ControlAction.DISPUTE, timeout, as_json=as_json, note=note)


@_request.command("new-key")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def new_key(path: Path, *, as_json: bool) -> int:
    """Write a new account key to PATH, mode 0600, and print its public half for the market's operator."""
    seed = secrets.token_bytes(SEED_BYTES)
    write_secret(path, seed.hex().encode() + b"\n")
    public = public_key(Ed25519PrivateKey.from_private_bytes(seed)).hex()
    return _tell({"path": str(path), "public_key": public}, [f"public key {public}"], as_json=as_json)


# --- parts --------------------------------------------------------------------------------------


def _call(setup: Setup, work: Callable[[Requester], Awaitable[T]], timeout: int, waiting_for: str) -> T:
    store, account = setup.store, setup.account()

    async def opened() -> T:
        async with setup.requester(store, account) as requester:
            return await within(timeout / 1000, partial(work, requester), waiting_for)

    return run(opened)


async def _submit(requester: Requester, *, wanted: Asked) -> RequestHandle:
    return await requester.submit(
        wanted.manifest,
        wanted.max_rate,
        wanted.ssh_key or None,
        identity=wanted.identity,
        preferred_regions=wanted.preferred,
        open_ms=wanted.open_ms,
    )


def _receive(setup: Setup, handle: RequestHandle, timeout: int, *, as_json: bool) -> int:
    access: Access = _call(setup, lambda requester: requester.serve_until_receipt(handle), timeout, "receipt")
    return _tell(told_access(access), access_lines(access), as_json=as_json)


def _find(setup: Setup, prefix: str) -> RequestHandle:
    return run(partial(find_handle, setup.store, prefix))


def _control(
    context: CommandContext,
    config: Path,
    id_: str,
    action: ControlAction,
    timeout: int,
    *,
    as_json: bool,
    extend_ms: int = 0,
    note: str = "",
) -> int:
    setup = Setup.read(context, config)
    handle = _find(setup, id_)
    verdict: ControlVerdict = _call(
        setup,
        lambda requester: requester.control(handle, action, extend_ms=Milliseconds(extend_ms), note=note),
        timeout,
        "answer to the lease control",
    )
    told = {"grant_id": verdict.grant_id.hex(), "action": action.value, "reason": verdict.reason}
    line = f"grant {short(verdict.grant_id)}: {action}: {verdict.reason}{_outcome(action, verdict)}"
    return _tell(told | {"duration_ms": verdict.duration_ms}, [line], as_json=as_json)


def _outcome(action: ControlAction, verdict: ControlVerdict) -> str:
    return f"; it may run {verdict.duration_ms // 1000} s in all" if action is ControlAction.EXTEND else ""


def _run_ssh(argv: list[str], *, as_json: bool) -> int:
    if not as_json:
        return subprocess.call(argv)  # noqa: S603 - an argument vector of our own making, no shell
    ended = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - as above
    told = {
        "host_key_pinned": True,
        "exit_status": ended.returncode,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
    }
    say(json.dumps(told, indent=2))
    return ended.returncode


def _tell(told: Any, lines: Iterable[str], *, as_json: bool) -> int:
    for line in [json.dumps(told, indent=2)] if as_json else lines:
        say(line)
    return Exit.OK
