"""Learning the rounding of a block of layers together (BRECQ), with PyTorch.

Rounding one layer at a time does not see what an activation or a sum behind it does with its errors. A block
is a piece of the graph with one value going in and one coming out, as a residual block is; all its roundings
are learned at once so that what comes out is that of the float model, given what goes in in the quantized one
(Li et al., *BRECQ: pushing the limit of post-training quantization by block reconstruction*, ICLR 2021).
Weights start from the integers that are there, and may go to the next one on the side of the float weight; as
in AdaRound a sigmoid stands for the choice. The error is the plain mean square: the paper weights it by the
squared gradients of the task's loss, which calibration data without labels does not give. A block that comes
no closer keeps its integers.

PyTorch is an extra of the package, ``irshrink[pytorch]``, and is imported here alone, when it is asked for.
"""

from __future__ import annotations

from irshrink.passes.quantize.reconstruct.reconstruct import reconstruct, require_torch

__all__ = ["reconstruct", "require_torch"]
