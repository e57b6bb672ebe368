"""Rules of the domain ``ai.onnx.ml``: trees, support vectors, linear models and their preparation."""
