"""What can go wrong in a demo."""

from compute_bridge.ports.errors import ComputeBridgeError


class DemoError(ComputeBridgeError):
    """The demo cannot go on; read the words, mend, run it again."""
