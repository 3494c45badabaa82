"""A backend over the toy cloud of the kit, and its World: the example for a cloud of your own."""
