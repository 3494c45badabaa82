"""The installed commands, from metadata alone: nothing is imported until one is called."""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Final, NamedTuple

from compute_bridge.model.errors import ComputeBridgeError

COMMANDS: Final = "compute_bridge.commands"
HELP_LINES: Final = "compute_bridge.command_help"

#: Commands of our own distributions, so that an error can say what to install.
ELSEWHERE: Final = {
    "aws": "compute-bridge-aws",
    "azure": "compute-bridge-azure",
    "demo": "compute-bridge-demo",
    "gcp": "compute-bridge-gcp",
    "market": "compute-bridge-market",
}

HEAD: Final = """\
Usage: compute-bridge COMMAND [ARGUMENTS]

Sell compute from clouds and racks behind one attested identity.

Commands:
"""
TAIL: Final = """\

compute-bridge COMMAND --help tells more of one; compute-bridge --version tells the version.
"""


class UsageError(ComputeBridgeError):
    """The command line asks for what is not there; show the nearest thing that is, exit 2."""


class Command(NamedTuple):
    """A command: its name, its help line, and the entry point that is loaded when it is called."""

    name: str
    help: str
    entry: EntryPoint

    @property
    def where(self) -> str:
        """The distribution and the entry point, as errors name them."""
        distribution = f"{self.entry.dist.name} {self.entry.dist.version}" if self.entry.dist else "nowhere"
        return f"distribution {distribution}, entry point {self.name} = {self.entry.value}"


def installed_commands() -> dict[str, Command]:
    """Return every installed command by its name, in order of the names.

    :raises UsageError: if two distributions bring one name.
    """
    lines = [entry for entry in entry_points(group=HELP_LINES) if " " in entry.name]
    # By target too, so that a distribution can only caption its own commands.
    helps = {(entry.name.split(" ", 1)[0], entry.value): entry.name.split(" ", 1)[1] for entry in lines}
    found: dict[str, Command] = {}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        told = helps.get((entry.name, entry.value), f"(no help line; {entry.value})")
        command = Command(entry.name, told, entry)
        other = found.setdefault(entry.name, command)
        if other is not command:
            raise UsageError(f"command {entry.name!r} is doubled: {other.where}; and {command.where}; uninstall one")
    return found


def top_help() -> str:
    """Return what ``compute-bridge --help`` prints."""
    commands = installed_commands()
    width = max(map(len, commands), default=0)
    return HEAD + "".join(f"  {name.ljust(width)}  {command.help}\n" for name, command in commands.items()) + TAIL


def find_command(name: str) -> Command:
    """Return the installed command ``name``.

    :raises UsageError: if there is none, saying the nearest one, or what to install.
    """
    commands = installed_commands()
    if name in commands:
        return commands[name]
    if name in ELSEWHERE:
        raise UsageError(f"command {name!r} is not installed; pip install {ELSEWHERE[name]}")
    close = get_close_matches(name, [*commands, *ELSEWHERE], n=1)
    mend = f"did you mean {close[0]!r}?" if close else "compute-bridge --help lists them all"
    raise UsageError(f"there is no command {name[:40]!r}; {mend}")
