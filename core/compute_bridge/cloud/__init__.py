"""What backends over a cloud's API share: one life of a machine, whatever the cloud. For plugins to use."""
