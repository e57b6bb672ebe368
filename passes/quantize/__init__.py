"""Post-training quantization: a float graph in, a QDQ graph out."""
