"""Single weights and patterns of weights that become 0, and constants stored without their zeros."""
