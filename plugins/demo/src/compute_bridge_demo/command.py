"""``compute-bridge demo``: play one whole lease on this machine."""

import json
import signal
import sys
from collections.abc import Callable

import anyio
import click

from compute_bridge.api import CommandContext
from compute_bridge_demo.account import Account
from compute_bridge_demo.cast import find_ssh_programs
from compute_bridge_demo.child import open_theatre
from compute_bridge_demo.errors import DemoError
from compute_bridge_demo.play import Options, play


def demo(context: CommandContext) -> int:
    """Run ``compute-bridge demo``."""
    return int(_demo.main(context.arguments, "compute-bridge demo", standalone_mode=False, obj=context) or 0)


@click.command(name="demo")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
@click.option("--keep", is_flag=True, help="Leave the temporary folder where it is, and say where.")
@click.option("--duration", default="10m", show_default=True, help="How long a machine to ask for.")
@click.option(
    "--builtin-ssh", is_flag=True, help="Use the SSH server and client in Python even where OpenSSH is there."
)
@click.pass_obj
def _demo(context: CommandContext, *, as_json: bool, keep: bool, duration: str, builtin_ssh: bool) -> int:
    """Play one whole lease on this machine: a market, two bridges with a rack host each, a requester.

    Everything lies in one temporary folder, which goes when the demo ends, however it ends.
    """
    if sys.platform != "linux":
        raise DemoError(f"the demo's rack hosts need Linux, this is {sys.platform}; run it on a Linux machine")
    tell = _teller(context, sys.stderr.write if as_json else sys.stdout.write)
    options = Options(duration, find_ssh_programs(builtin=builtin_ssh), tell)
    account = anyio.run(_run, context, options, keep)
    if as_json:
        context.say(json.dumps(account.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in account.as_lines():
            context.say(line)
    return 0 if account.holds else 6


def _teller(context: CommandContext, write: Callable[[str], int]) -> Callable[[str], None]:
    """Return what tells of progress as it happens, with the seconds since the start."""
    start = context.clock.monotonic_ms()

    def tell(line: str) -> None:
        passed_ms = context.clock.monotonic_ms() - start
        write(f"[{passed_ms // 1000:3}.{passed_ms % 1000 // 100} s] {line}\n")
        (sys.stderr if write == sys.stderr.write else sys.stdout).flush()

    return tell


async def _run(context: CommandContext, options: Options, keep: bool) -> Account:
    """Play until the end or a signal.

    :raises KeyboardInterrupt: after a signal, with everything cleaned up.
    """
    account: Account | None = None
    async with anyio.create_task_group() as listening:
        with anyio.CancelScope() as playing:
            await listening.start(_listen, playing)
            async with open_theatre(keep=keep) as theatre:
                options.tell(f"everything lies in {theatre.folder}")
                account = await play(context, theatre, options)
        listening.cancel_scope.cancel()
    if account is None:
        raise KeyboardInterrupt
    return account


async def _listen(playing: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """End the play at the first signal, and swallow more while it cleans up."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            playing.cancel()
