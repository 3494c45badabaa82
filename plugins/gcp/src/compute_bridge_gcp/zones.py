"""Which zones a listing of the project has to show, so that one where nothing is ours holds up no other."""

import logging
import re
from collections.abc import Iterable, Set

from compute_bridge.model.ids import BackendName
from compute_bridge_gcp.config import GcpConfig
from compute_bridge_gcp.errors import MEANINGS

logger = logging.getLogger(__name__)

_ZONE = re.compile(r"(?:.*/)?zones/([^/]+)")
_WHY = "the table does not name it, and nothing of ours is known there"


class Zones:
    """The zones of one table, and those in which a listing has shown a machine of its owner since it was opened."""

    def __init__(self, backend: BackendName, config: GcpConfig) -> None:
        self._backend = backend
        self._config = config
        # Only ever added to: a zone that falls silent while its last machine goes away tells nothing of that machine.
        self._shown: set[str] = set()
        self._left_out: dict[str, frozenset[str]] = {}

    def note(self, zones: Iterable[str]) -> None:
        """Take in the zones in which a listing shows machines of ours."""
        self._shown.update(zones)

    def require(self, doing: str, silent: Iterable[str], *, shows_machines: bool) -> None:
        """Accept that ``silent`` places are left out of an answer; each is told in the log once while it is silent.

        :raises UnavailableError: if the table sells in one of them, or, for an answer that shows machines, one of ours
            may be there.
        """
        shown = self._shown if shows_machines else set()
        needed = sorted(place for place in silent if self._needs(place, shown))
        if needed:
            raise MEANINGS.error(self._backend, doing, "unreachable", place=", ".join(needed))
        before, now = self._left_out.get(doing, frozenset()), frozenset(silent)
        self._left_out[doing] = now
        for place in sorted(now - before):
            logger.warning("backend %s: cannot %s in %s, which is left out: %s", self._backend, doing, place, _WHY)

    def _needs(self, place: str, shown: Set[str]) -> bool:
        found = _ZONE.fullmatch(place)
        # What is no zone may be anything.
        return found is None or found[1] in shown or self._config.region_of(found[1]) is not None
