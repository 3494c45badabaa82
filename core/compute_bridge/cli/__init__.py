"""Arguments in, exit code out; one module a command group, imported when its command runs."""
