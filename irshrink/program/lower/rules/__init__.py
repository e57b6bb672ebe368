"""How each ONNX operator becomes operators of the program; the table is ``irshrink.program.lower.table``."""
