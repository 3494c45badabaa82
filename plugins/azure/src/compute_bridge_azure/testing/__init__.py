"""The Resource Manager on loopback, over the physics of a cloud, and the World of the conformance kit on it."""
