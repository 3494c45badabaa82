"""A certificate authority of a test's own, and a certificate for loopback."""

from pathlib import Path
from ssl import SSLContext

from attrs import frozen


@frozen
class Tls:
    """What a server shows (``server``), and the PEM file that a client has to trust (``ca_file``)."""

    server: SSLContext
    ca_file: Path


def make_tls(folder: Path, *, names: tuple[str, ...] = ("localhost",)) -> Tls:
    """Write an authority and a certificate for 127.0.0.1 and ``names`` to ``folder``."""
    raise NotImplementedError
