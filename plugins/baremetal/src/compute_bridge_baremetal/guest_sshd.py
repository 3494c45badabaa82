"""A small SSH server for machines without OpenSSH's: ``python -m compute_bridge_baremetal.guest_sshd -D -e -f FILE``.

It reads the same settings file as the ``sshd`` that it stands in for, and refuses what it cannot hold. One user, who
is the one that it runs as; public keys only; commands, shells, file transfer; no forwarding.
"""

import argparse
import asyncio
import fcntl
import os
import pty
import pwd
import shutil
import struct
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from compute_bridge_baremetal.ssh import Doorway, GuestSession, serve_logins

_PATH = "/usr/local/bin:/usr/bin:/bin"
# What this server always does, so that a settings file may say so too.
_GIVEN = {
    "AuthenticationMethods": ("publickey",),
    "PubkeyAuthentication": ("yes",),
    "PasswordAuthentication": ("no",),
    "KbdInteractiveAuthentication": ("no",),
    "X11Forwarding": ("no",),
    "UsePAM": ("no",),
    "StrictModes": ("no",),
    "PidFile": ("none",),
    "PrintMotd": ("no",),
    "PermitRootLogin": ("prohibit-password", "yes"),
    "LogLevel": ("ERROR",),
    "Subsystem": ("sftp internal-sftp",),
}
_READ = ("Port", "ListenAddress", "HostKey", "AuthorizedKeysFile", "AllowUsers", "SetEnv")


class SettingsError(Exception):
    """The settings file asks for what this server cannot hold; mend the file."""


@frozen
class Settings:
    """What a settings file says: where to listen, with which keys, for whom, and with what environment."""

    doorway: Doorway
    environment: Mapping[str, str]


def read_settings(text: str) -> Settings:
    """Return the settings in ``text``.

    :raises SettingsError: if one is missing, or is one that this server cannot hold.
    """
    said: dict[str, str] = {}
    for line in text.splitlines():
        word, _, value = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word not in _READ and value.strip() not in _GIVEN.get(word, ()):
            raise SettingsError(f"{line.strip()!r} is beyond this server; leave it out, or install openssh-server")
        said[word] = value.strip()
    if missing := [word for word in ("Port", "HostKey", "AuthorizedKeysFile") if word not in said]:
        raise SettingsError(f"{', '.join(missing)} must be given")
    user = said.get("AllowUsers", _account().pw_name)
    environment = dict(pair.split("=", 1) for pair in said.get("SetEnv", "").split())
    doorway = Doorway(
        said.get("ListenAddress", ""), int(said["Port"]), said["HostKey"], said["AuthorizedKeysFile"], user
    )
    return Settings(doorway, environment)


def _account() -> pwd.struct_passwd:
    return pwd.getpwuid(os.geteuid())


def _environment(settings: Settings, terminal: str | None) -> dict[str, str]:
    account = _account()
    shown = {"TERM": terminal} if terminal else {}
    login = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": account.pw_shell}
    return {"PATH": _PATH, **login, **shown, **settings.environment}


def _home() -> str:
    home = _account().pw_dir
    return home if os.access(home, os.X_OK) else "/"


async def run_session(session: GuestSession, settings: Settings) -> int:
    """Run what a session asks for, or a shell, to its end; return its exit status."""
    shell = _account().pw_shell or "/bin/sh"
    words = [shell, "-c", session.command] if session.command else [shell]
    environment = _environment(settings, session.terminal)
    if session.terminal is None:
        return await _run_plain(session, words, environment)
    return await _run_in_terminal(session, words, environment)


async def _run_plain(session: GuestSession, words: list[str], environment: dict[str, str]) -> int:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=_home(), start_new_session=True
    )
    # A process that is given pipes has them.
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018
    await session.carry(process.stdin, process.stdout, process.stderr)
    return await process.wait()


async def _run_in_terminal(session: GuestSession, words: list[str], environment: dict[str, str]) -> int:
    ours, theirs = pty.openpty()
    columns, rows = session.size
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # setsid makes the terminal the session's own; without it a shell has no job control.
    leader = [shutil.which("setsid") or "setsid", "--ctty", *words]
    process = await asyncio.create_subprocess_exec(
        *leader, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=_home()
    )
    os.close(theirs)
    await session.connect(os.dup(ours), ours)
    return await process.wait()


def main(arguments: list[str] | None = None) -> int:
    """Serve until ended by a signal; take the options that an ``sshd`` takes."""
    parser = argparse.ArgumentParser(prog="guest_sshd", description="A small SSH server.")
    parser.add_argument("-D", action="store_true", help="stay in the foreground, as it always does")
    parser.add_argument("-e", action="store_true", help="write errors to stderr, as it always does")
    parser.add_argument("-f", required=True, type=Path, metavar="FILE", help="the settings")
    file: Path = parser.parse_args(arguments).f
    try:
        settings = read_settings(file.read_text())
        asyncio.run(serve_logins(settings.doorway, lambda session: run_session(session, settings)))
    except (SettingsError, OSError, ValueError) as error:
        sys.stderr.write(f"{file}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
