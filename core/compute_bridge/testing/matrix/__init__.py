"""What goes wrong in a cloud, by subject; :mod:`compute_bridge.testing.cloud_faults` puts it together."""
