"""Broken backends over the clouds: a plugin, or the room that they share, with one fault each."""
