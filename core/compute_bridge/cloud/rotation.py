"""A host key that no control plane has seen: the guest's side of putting it in place.

The injected key stands in the user data, which whoever reads the account, and the cloud, can read. So the guest has
one more door for one login with a key that only the bridge can derive: it runs one program, which takes the next
private host key from its standard input, puts it in place and removes the door. Who is shown the next key therefore
knows that the door is gone.

Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT; sshd_config(5), ``Match`` and ``AuthorizedKeysFile``, OpenSSH 9.2.
"""

from typing import Final

from compute_bridge.ports.backend import KeyRotation

USER: Final = "root"
"""Who logs in through the door."""
HOST_KEY: Final = "/etc/ssh/ssh_host_ed25519_key"
DOOR: Final = "/etc/ssh/compute-bridge-rotation.keys"
PROGRAM: Final = "/usr/local/sbin/compute-bridge-rotate"

SSHD: Final = f"""\
Match User {USER}
    AuthorizedKeysFile {DOOR} .ssh/authorized_keys
"""
"""The end of the SSH server's settings: a ``Match`` block reaches as far as its file."""


def door(rotation: KeyRotation) -> str:
    """Return the keys file that lets the bridge in, for the one program only."""
    return f'restrict,command="{PROGRAM}" {rotation.login_key}\n'


def program() -> str:
    """Return the program behind the door, for a POSIX shell.

    The door goes before the server is told of the new key, so that it is not there any more once that key is shown.
    """
    return f"""\
#!/bin/sh
set -eu
umask 077
new=$(mktemp {HOST_KEY}.XXXXXX)
trap 'rm -f "$new" "$new.pub"' EXIT
cat >"$new"
ssh-keygen -y -P '' -f "$new" >"$new.pub"
chmod 644 "$new.pub"
mv -f "$new.pub" {HOST_KEY}.pub
mv -f "$new" {HOST_KEY}
rm -f {DOOR} {PROGRAM}
for unit in ssh.service sshd.service; do
  systemctl try-reload-or-restart "$unit" 2>/dev/null || :
done
"""
