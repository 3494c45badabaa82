"""``compute-bridge plugins``: list and check what is installed."""

import json

import attrs
import click

from compute_bridge import __version__, builtin
from compute_bridge.adapters.strict_toml import require_readable
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import json_option
from compute_bridge.host.distribution import promises
from compute_bridge.host.plugin_check import PluginReport, check_plugins
from compute_bridge.host.registration import HOST, register
from compute_bridge.ports.command import CommandContext


def plugins(context: CommandContext) -> int:
    """Run ``compute-bridge plugins``."""
    return int(_plugins.main(context.arguments, "compute-bridge plugins", standalone_mode=False) or 0)


@click.group(name="plugins", help="List and check the installed plugins.")
def _plugins() -> None: ...


@_plugins.command("list", short_help="List the installed kinds.")
@json_option
def list_(*, as_json: bool) -> int:
    """List the kinds that can be named in a boot file; reads metadata only and imports no plugin."""
    own = [
        {"kind": found.kind, "distribution": HOST, "version": __version__, "target": builtin.__name__}
        for found in register(builtin, "built in")
    ]
    fields = attrs.filters.exclude("entry")
    rows = own + [attrs.asdict(promise, filter=fields) for promise in promises()]
    if as_json:
        say(json.dumps(rows, indent=2))
        return Exit.OK
    for row in [{"kind": "KIND", "distribution": "DISTRIBUTION", "version": "VERSION", "target": "MODULE"}, *rows]:
        say(f"{row['kind']:<16} {row['distribution']:<28} {row['version']:<10} {row['target']}")
    return Exit.OK


@_plugins.command(short_help="Import and check every plugin.")
@json_option
def check(*, as_json: bool) -> int:
    """Import every installed plugin, call its hooks, and report what each registers and its digest."""
    reports = check_plugins(version=__version__, builtins=(builtin,), readable=require_readable)
    if as_json:
        say(json.dumps([attrs.asdict(report) for report in reports], indent=2))
    else:
        for report in reports:
            say(_told(report))
    return Exit.CONFIG if any(report.fault for report in reports) else Exit.OK


def _told(report: PluginReport) -> str:
    head = f"{report.distribution} {report.version} {report.target}"
    if report.fault:
        return f"fault  {head}\n         {report.fault}"
    kinds = ", ".join(f"{group}/{kind}" for group, kind in report.kinds)
    return "\n         ".join(part for part in (f"ok     {head}", kinds, report.pin) if part)
