"""Values: frozen attrs classes and pure functions; no I/O, no clock, no randomness."""
