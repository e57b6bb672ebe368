"""The TVM backend: operators to TIR kernels, TIR to C, C to libraries. All of TVM stays in this folder."""
