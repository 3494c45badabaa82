"""It imports a package that is not installed."""

import compute_bridge_hostile_sdk  # noqa: F401
