"""What every operator computes, in NumPy, byte for byte.

This is the contract that every backend is held to. docs/integer-semantics.md says the same in words and
proves the ranges. float32 arithmetic here rounds once per operation and never changes the order of a sum.
"""

from irshrink.program.reference.evaluate import evaluate_op, run_program, values

__all__ = ["evaluate_op", "run_program", "values"]
