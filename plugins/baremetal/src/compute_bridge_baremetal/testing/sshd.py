"""A real OpenSSH server on a loopback address, playing one rack host."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SETTINGS = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
ForceCommand sh {folder}/gate.sh {folder}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100:30:200
ClientAliveInterval 2
ClientAliveCountMax 2
LogLevel ERROR
SetEnv SHLVL=9
"""
# A bridge that dies behind a cut cable says no goodbye, and what it asked last would wait for the rest of it for hours.
# With SHLVL above one bash takes itself for no login of sshd's, and leaves ~/.bashrc, which may take long.

# Runs what the bridge asks for, and lets a test spoil the next create once the machine exists, or the next terminate
# once it is gone.
_GATE = """\
folder=$1
reply=$folder/reply.$$
case $SSH_ORIGINAL_COMMAND in
*" create") mv "$folder/drop-create" "$folder/drop" 2>/dev/null ;;
*" terminate")
    mv "$folder/lose-terminate" "$folder/lose" 2>/dev/null ||
        mv "$folder/drop-terminate" "$folder/drop" 2>/dev/null || exec sh -c "$SSH_ORIGINAL_COMMAND"
    ;;
*" image_put")
    # Half a megabyte passes, then the cable is cut.
    mv "$folder/cut" "$folder/cut.$$" 2>/dev/null || exec sh -c "$SSH_ORIGINAL_COMMAND"
    head -c 500000 | sh -c "$SSH_ORIGINAL_COMMAND" >"$reply"
    touch "$folder/lose"
    ;;
*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
[ -e "$reply" ] || sh -c "$SSH_ORIGINAL_COMMAND" >"$reply"
if mv "$folder/hold" "$folder/hold.$$" 2>/dev/null; then
    main=$(sed -n 's/^pid //p' "$reply")
    kill -STOP "$main"
    echo "$main" >"$folder/held.$$" && mv "$folder/held.$$" "$folder/held"
fi
# The rules of a cable that is cut once the work is done.
if mv "$folder/drop" "$folder/drop.$$" 2>/dev/null; then
    nft -f "$folder/drop.$$"
fi
if mv "$folder/lose" "$folder/lose.$$" 2>/dev/null; then
    parent=$PPID
    until grep -q '^Name:.sshd' /proc/$parent/status; do
        parent=$(sed -n 's/^PPid:.//p' /proc/$parent/status)
    done
    kill -KILL "$parent"
fi
cat "$reply"
rm -f "$reply"
"""


class RackSshd:
    """One rack host's SSH server; ``folder`` holds its keys and the levers of its gate."""

    def __init__(self, folder: Path, address: str, authorized_key: str) -> None:
        self.folder = folder
        self.address = address
        self.port = free_port(address)
        self.user = getpass.getuser()
        self._authorized_key = authorized_key
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self.host_key = self.change_host_key()
        (folder / "gate.sh").write_text(_GATE)
        self.accept_key()

    def change_host_key(self, kind: str = "ed25519") -> str:
        """Give the server another host key, from its next start on; return the public line."""
        (self.folder / "host_key").unlink(missing_ok=True)
        make_key(self.folder / "host_key", kind)
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def accept_key(self) -> None:
        """Let the bridge's key log in."""
        (self.folder / "authorized_keys").write_text(self._authorized_key + "\n")

    def refuse_key(self) -> None:
        """Refuse the bridge's key, and end the sessions that it has."""
        (self.folder / "authorized_keys").write_text("")
        self.cut()

    def start(self) -> None:
        """Serve."""
        if self._process is not None:
            return
        settings = self.folder / "sshd_config"
        settings.write_text(_SETTINGS.format(port=self.port, address=self.address, folder=self.folder))
        log = (self.folder / "sshd.log").open("ab")
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        command = [program, "-D", "-e", "-f", str(settings)]
        self._process = subprocess.Popen(command, stderr=log)  # noqa: S603 - every word is ours
        log.close()
        try:
            _await_listener(self.address, self.port)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop answering; what runs on the machine goes on."""
        if self._process is None:
            return
        process, self._process = self._process, None
        sessions = list(_sshd_below(process.pid))
        process.kill()
        process.wait()
        _kill(sessions)

    def connections(self) -> int:
        """Return how many connections it serves now."""
        return 0 if self._process is None else len(list(_sshd_children(self._process.pid)))

    def cut(self) -> None:
        """Cut every connection, as a cable does; new ones are served."""
        if self._process is not None:
            _kill(list(_sshd_below(self._process.pid)))


def make_key(path: Path, kind: str = "ed25519") -> None:
    """Write a new key pair to ``path`` and ``path``.pub."""
    command = [shutil.which("ssh-keygen") or "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)  # noqa: S603 - every word is ours


def free_port(address: str) -> int:
    """Return a port of ``address`` that nobody has just now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _await_listener(address: str, port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"no SSH server came up on {address} port {port}")
        time.sleep(0.01)


def _sshd_parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if name.startswith("sshd"):
                parents[int(path.parent.name)] = int(rest.split()[1])
    return parents


def _sshd_below(root: int) -> Iterator[int]:
    parents = _sshd_parents()
    below = {root}
    while found := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= found
    yield from below - {root}


def _sshd_children(root: int) -> Iterator[int]:
    yield from (pid for pid, parent in _sshd_parents().items() if parent == root)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
