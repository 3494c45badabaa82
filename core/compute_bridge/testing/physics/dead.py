"""A cloud that is not there at all: no connection to it comes about."""

from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from typing import NoReturn
from unittest.mock import patch


@contextmanager
def nobody_answers() -> Generator[list[float]]:
    """Let no connection of urllib3, which the SDKs of clouds stand on, come about; yield how long each was waited for.

    Nobody waits in fact: the times, in seconds, are those that the SDK was told, or without end.
    """
    waits: list[float] = []

    def never(_address: object, timeout: float = inf, *_more: object, **_options: object) -> NoReturn:
        waits.append(timeout)
        raise TimeoutError("nobody answers")

    with patch("urllib3.util.connection.create_connection", never):
        yield waits
