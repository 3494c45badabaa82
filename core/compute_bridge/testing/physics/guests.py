"""The guests: for each machine an SSH server on a loopback address of its own."""

from collections.abc import Callable


class Guests:
    """One thread that listens for all machines, and for each connection a real ``sshd -i``."""

    def boot(self, machine: str, user_data: bytes, is_up: Callable[[], bool]) -> str:
        """Listen for a machine on an address that nobody has; return the address.

        Until ``is_up`` says so, and after it no longer does, connections are reset.
        """
        raise NotImplementedError

    def end(self, machine: str) -> None:
        """Close a machine's listener and kill its sessions."""
        raise NotImplementedError

    def close(self) -> None:
        """End every guest and the thread."""
        raise NotImplementedError
