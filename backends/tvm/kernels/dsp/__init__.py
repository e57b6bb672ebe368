"""int8 kernels for Cortex-M with the DSP extension."""
