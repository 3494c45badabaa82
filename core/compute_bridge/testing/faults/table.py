"""All planted faults; to import their modules is to plant them."""

from compute_bridge.testing.faults import (
    deadman,
    declaring,
    ending,
    extending,
    failing,
    finding,
    noticing,
    provisioning,
    remains,
)
from compute_bridge.testing.faults.planted import PLANTED

MODULES = (declaring, provisioning, finding, extending, ending, remains, noticing, deadman, failing)
FAULTS = tuple(PLANTED)
