"""The ports made real, one file each."""
