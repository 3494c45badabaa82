"""It ends the process as it is imported."""

import sys

sys.exit("this plugin needs a newer Python")
