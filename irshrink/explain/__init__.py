"""What quantization did to a model, layer by layer: how much noise, where from, and what would help."""
