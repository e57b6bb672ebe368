"""Changes of a float model that make its layers easier to round, and nothing else."""
