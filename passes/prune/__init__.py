"""Taking channels, neurons, heads and blocks out of a model, and repairing what is left without training."""
