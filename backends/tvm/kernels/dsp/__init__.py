"""int8 kernels for Cortex-M with the DSP extension; micro-kernels in ``support/irshrink_dsp.h``."""
