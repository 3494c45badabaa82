"""All faults planted in clouds; to import their modules is to plant them."""

from plantedclouds import call, room, sent
from plantedclouds.planting import FAULTS

MODULES = (sent, call, room)
PLANTED = tuple(FAULTS)
