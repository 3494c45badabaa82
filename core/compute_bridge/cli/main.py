"""From arguments to a command and from its errors to one clear message and an exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from compute_bridge.cli.commands import Command, find_command, top_help
from compute_bridge.model.errors import ComputeBridgeError

TRACE = "COMPUTE_BRIDGE_TRACE"


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return the exit code.

    An error that can be named becomes one message on stderr; any other is a bug, and leaves as it is.
    """
    try:
        return _dispatch(arguments)
    except (ComputeBridgeError, KeyboardInterrupt, BaseExceptionGroup) as error:
        return _tell(error)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain again as it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as click does


def end(code: int) -> int:
    """Return ``code``, but after a signal end the process with it here, without waiting for its threads.

    A second interrupt can break the event loop before it has ended its worker threads, and Python would wait for them
    for ever.
    """
    if code <= 128:  # above it are signals, as shells count
        return code
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):  # whoever read it has left
            stream.flush()
    os._exit(code)


def _dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("--help", "-h", "help"):
        sys.stdout.write(top_help())
        sys.stdout.flush()
        return 0
    return _run(find_command(name), rest)


def _run(command: Command, arguments: Sequence[str]) -> int:
    import click

    from compute_bridge.cli.context import make_command_context

    if os.environ.get(TRACE) == "1":
        _trace_hooks()
    call = _load(command)
    try:
        code = call(make_command_context(arguments))
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def _trace_hooks() -> None:
    """Print every hook call on stderr."""
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("compute-bridge: trace: %(message)s"))
    logger = logging.getLogger("compute_bridge.host.registration")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def _load(command: Command) -> Any:
    from compute_bridge.ports.errors import PluginError

    try:
        call = command.entry.load()
    except Exception as error:  # a supervisor: a distribution's module may raise anything
        raise PluginError(
            f"{command.where}: does not load: {type(error).__name__}: {error}; "
            "mend the distribution, or pip install --force-reinstall it"
        ) from error
    if not callable(call):
        raise PluginError(f"{command.where}: is a {type(call).__name__}; name a function that takes a CommandContext")
    return call


def _tell(error: BaseException) -> int:
    """Print what is wrong and return the exit code; raise what is no error of ours."""
    from compute_bridge.cli.exits import exit_code, leaves

    found = list(leaves(error))
    if any(not isinstance(leaf, ComputeBridgeError | KeyboardInterrupt) for leaf in found):
        raise error
    if os.environ.get(TRACE) == "1":
        sys.stderr.write("".join(traceback.format_exception(error)))
    for leaf in found:
        sys.stderr.write(f"compute-bridge: {str(leaf) or 'interrupted'}\n")
    return int(exit_code(found[0]))
