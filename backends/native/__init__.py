"""Builds that this machine runs itself, through ctypes."""
