"""Repairs of a model that lost some of its weights: closed forms on calibration data, no training."""
