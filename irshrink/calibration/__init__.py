"""Ranges of activations from samples, streamed."""

from irshrink.calibration.calibrate import (
    CalibrationMethod,
    calibrate,
    channel_extremes,
    channel_means,
    each_sample,
)
from irshrink.calibration.measured import Measured
from irshrink.calibration.observers import Range

__all__ = [
    "CalibrationMethod",
    "Measured",
    "Range",
    "calibrate",
    "channel_extremes",
    "channel_means",
    "each_sample",
]
