"""Calibration and evaluation data: streamed, checked before anything is built from it.

A sample is one value for every input of the graph. Data comes as an ``.npz`` or CSV file or as a folder of
images or recordings; only one batch is in memory at a time, however many samples there are.
"""

from irshrink.samples.options import AudioOptions, CsvOptions, Reading
from irshrink.samples.samples import Samples, input_specs, load_samples, unread
from irshrink.samples.source import Array, ImageOptions, InputSpec, Role, Source, castable, may_be_stored

__all__ = [
    "Array",
    "AudioOptions",
    "CsvOptions",
    "ImageOptions",
    "InputSpec",
    "Reading",
    "Role",
    "Samples",
    "Source",
    "castable",
    "input_specs",
    "load_samples",
    "may_be_stored",
    "unread",
]
