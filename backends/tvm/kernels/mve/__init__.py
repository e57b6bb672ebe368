"""int8 kernels for Helium, the vectors of Armv8.1-M (MVE): Cortex-M55, M85.

Dot products add 16 products to a general register (VMLADAVA), so a tile of sums costs no vector registers;
depthwise layers keep channels in lanes. Requantization is exact in float vectors: docs/decisions/0017-mve.md.
"""
