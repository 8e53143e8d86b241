"""The commands: each file turns arguments into one call."""
