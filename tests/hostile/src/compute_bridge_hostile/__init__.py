"""A plugin that does everything wrong; one module for each wrong, named for it."""
