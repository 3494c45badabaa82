"""Real racks in a temporary folder: the worlds that this plugin's tests, and yours, stand on."""
