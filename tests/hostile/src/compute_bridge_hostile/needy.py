"""It imports a package that is not installed."""

import compute_bridge_hostile_sdk  # type: ignore[import-not-found]  # noqa: F401
