"""All planted faults; to import their modules is to plant them."""

from compute_bridge.testing.faults import declaring, ending, extending, failing, finding, provisioning
from compute_bridge.testing.faults.planted import PLANTED

MODULES = (declaring, provisioning, finding, extending, ending, extending, failing)
FAULTS = tuple(PLANTED)
