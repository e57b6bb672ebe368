"""The program: what is left of a model once layouts, number formats and order are decided.

A program is a list of operators over named tensors. It knows no compiler and no board. ``lower`` makes it
from a quantized graph, ``reference`` says in NumPy what each operator computes, byte for byte, ``arena``
gives its tensors addresses, and backends turn it into code.
"""
