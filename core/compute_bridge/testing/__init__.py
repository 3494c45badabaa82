"""The test kit that plugin authors install with ``compute-bridge[testing]``."""
