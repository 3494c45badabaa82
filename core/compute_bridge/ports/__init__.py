"""What the roles ask of the outside: abstract classes, hooks and errors; no behaviour."""
