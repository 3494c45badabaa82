"""What a cloud's error codes mean to the host: one table a cloud, and never a guess at a message."""

from collections.abc import Mapping

from attrs import frozen

from compute_bridge.model.ids import BackendName
from compute_bridge.ports.errors import (
    BackendError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
)

_UNKNOWN_MEND = "this code is in no table of ours, so nothing is concluded; report it to the plugin's author"
_WAIT_S = 5.0


@frozen
class Meaning:
    """The class of one code, what the operator should do, and how far a lack of capacity or a quota reaches."""

    kind: type[BackendError]
    mend: str
    scope: Scope | None = None


class Meanings:
    """The codes of one cloud. A code that is not among them is no answer at all: the host backs off and benches."""

    def __init__(self, table: Mapping[str, Meaning]) -> None:
        self._table = dict(table)

    def knows(self, code: str) -> bool:
        """Return whether the table has this code."""
        return code in self._table

    def error(
        self, backend: BackendName, doing: str, code: str, *, retry_after_s: float | None = None, place: str = ""
    ) -> BackendError:
        """Return the error to raise for ``code``, naming the backend, what it was doing, the code and the mend.

        The cloud's own message is left out: nobody promised that it holds no credential.
        """
        meaning = self._table.get(code, Meaning(UnavailableError, _UNKNOWN_MEND))
        where = f" in {place}" if place else ""
        message = f"backend {backend}: cannot {doing}{where}: {code}: {meaning.mend}"
        if issubclass(meaning.kind, ThrottledError):
            return meaning.kind(message, retry_after_s=retry_after_s or _WAIT_S)
        if meaning.scope is not None and issubclass(meaning.kind, NoCapacityError | QuotaError):
            return meaning.kind(message, scope=meaning.scope)
        return meaning.kind(message)
