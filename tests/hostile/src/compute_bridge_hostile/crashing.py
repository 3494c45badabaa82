"""It raises as it is imported."""

raise RuntimeError("this plugin is broken")
