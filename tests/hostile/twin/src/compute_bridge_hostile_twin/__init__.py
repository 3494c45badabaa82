"""A plugin that is right by itself, beside one whose kind has the same name."""
