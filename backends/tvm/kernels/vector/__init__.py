"""int8 kernels in vectors: one generator a family, one micro-kernel an instruction set.

The generators know geometry: rows, segments, tiles, borders, where results go. A *micro-kernel*
(:class:`~irshrink.backends.tvm.kernels.vector.micro.MicroKernel`) knows how one tile of pixels x channels is
accumulated from contiguous bytes and packed weights, and how accumulators become bytes. A further instruction
set is one module that implements the protocol and one line in ``sets.micro_kernel``.

| module | what it has |
|---|---|
| micro | the protocol |
| sets | which instruction set a target has |
| select | vector kernels where there are any, the general ones else |
| neon, paired, dotprod | micro-kernels of 64-bit Arm |
| floating, depthwise_floating, fma | the same for float32 with fused sums: 64-bit Arm and AVX-512 |
| half | the same for float16: 64-bit Arm |
| vnni, columns, x86_results | micro-kernels of x86-64 with AVX-512 VNNI, and what they make of sums |
| avx2 | the same for AVX2 |
| results | what 64-bit Arm makes of sums: requantization in vectors, fused clamp and residual addition |
| requantize | the proof by which requantization is a multiplication of integers |
| convolution | convolution and dense layers: row form, pointwise, patches of few channels |
| depthwise, taps | depthwise convolution and its micro-kernels |
| layer | a layer as the generators see it, and which tile suits it |
| geometry | padded copies, segments, patches |

Decision 0016 says why they are as they are.
"""
