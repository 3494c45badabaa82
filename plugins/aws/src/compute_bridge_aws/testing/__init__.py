"""A wire-level fake of AWS, through which the real SDK drives the plugin; and the World over it."""
