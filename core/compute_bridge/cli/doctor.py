"""``compute-bridge doctor``: whether each backend could serve a grant, told before the first one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import attrs
import click

from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.cli.backends import Backends, backend_option, find_backends
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.host.doctor import examine, fault
from compute_bridge.model.boot import BackendSettings
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.doctor import Finding, Verdict

_NONE = "has no doctor; nothing was examined"


@attrs.frozen
class _Examined:
    table: BackendSettings
    findings: tuple[Finding, ...] | None


def doctor(context: CommandContext) -> int:
    """Run ``compute-bridge doctor``."""
    return int(_doctor.main(context.arguments, "compute-bridge doctor", standalone_mode=False, obj=context.clock) or 0)


@click.command(name="doctor")
@config_option
@set_option
@backend_option
@json_option
@click.pass_obj
def _doctor(clock: Clock, config: Path, flags: Mapping[str, str], *, names: Sequence[str], as_json: bool) -> int:
    """Open the backends and let each examine itself: identity, permissions, quotas, images, networks.

    Makes nothing and ends nothing. Ends with 1 where anything is at fault, and else with 8 where of a backend nothing
    but its identity could be examined.
    """
    backends = find_backends(load_boot(config, flags=flags), names, clock)
    examined = anyio.run(_examine_all, backends)
    if as_json:
        say(json.dumps([_plain(one) for one in examined], indent=2))
    else:
        for line in (line for one in examined for line in _lines(one)):
            say(line)
    return _exit(examined)


def _exit(examined: Sequence[_Examined]) -> Exit:
    told = [one.findings for one in examined if one.findings is not None]
    if any(found.verdict is Verdict.FAULT for findings in told for found in findings):
        return Exit.ERROR
    return Exit.OK if all(map(_is_examined, told)) else Exit.UNREACHABLE


def _is_examined(findings: Sequence[Finding]) -> bool:
    # An identity may be read out of a key file, so that it is well says nothing of whether the cloud was asked.
    return any(found.verdict is Verdict.OK and found.check != "identity" for found in findings)


async def _examine_all(backends: Backends) -> list[_Examined]:
    return [_Examined(table, await _examine(backends, table)) for table in backends.tables]


async def _examine(backends: Backends, table: BackendSettings) -> tuple[Finding, ...] | None:
    try:
        async with backends.open(table) as backend:
            return await examine(table.name, backend)
    except ComputeBridgeError as error:
        return (fault("open", error),)


def _plain(one: _Examined) -> dict[str, object]:
    findings = [attrs.asdict(found) for found in one.findings or ()]
    return {
        "backend": one.table.name,
        "kind": one.table.kind,
        "has_doctor": one.findings is not None,
        "findings": findings,
    }


def _lines(one: _Examined) -> Iterator[str]:
    head = f"{one.table.name} ({one.table.kind})"
    if one.findings is None:
        yield f"{head}: {_NONE}"
        return
    yield f"{head}:"
    width = max(len(found.check) for found in one.findings)
    for found in one.findings:
        mend = f"; {found.mend}" if found.mend else ""
        yield f"  {found.verdict:<8} {found.check:<{width}}  {found.detail}{mend}".rstrip()
