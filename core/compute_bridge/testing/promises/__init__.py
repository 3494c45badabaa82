"""The backend's promises, one test each, by subject; :mod:`compute_bridge.testing.backend` puts them together."""
