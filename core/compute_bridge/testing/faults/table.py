"""All planted faults; to import their modules is to plant them."""

from compute_bridge.testing.faults import deadman, declaring, ending, extending, failing, finding, provisioning
from compute_bridge.testing.faults.planted import PLANTED

MODULES = (declaring, provisioning, finding, extending, ending, deadman, failing)
FAULTS = tuple(PLANTED)
