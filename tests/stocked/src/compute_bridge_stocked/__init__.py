"""A backend that answers as a file says; for tests."""
