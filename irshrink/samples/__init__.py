"""Calibration and evaluation data: streamed, checked before anything is built from it.

A sample is one value for every input of the graph. Data comes as an ``.npz`` file or as a folder of
images; either way only one batch is in memory at a time, however many samples there are.
"""

from irshrink.samples.samples import Samples, input_specs, load_samples
from irshrink.samples.source import Array, ImageOptions, InputSpec, Role, Source, castable, may_be_stored

__all__ = [
    "Array",
    "ImageOptions",
    "InputSpec",
    "Role",
    "Samples",
    "Source",
    "castable",
    "input_specs",
    "load_samples",
    "may_be_stored",
]
