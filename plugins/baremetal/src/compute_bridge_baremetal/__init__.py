"""Sell the machines of your own racks: podman and process workloads over SSH."""
