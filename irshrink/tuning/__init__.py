"""Choosing schedules by measurement: workloads, databases, search, journal (docs/tuning.md).

What a schedule means is the backend's affair. Here it is a small table of plain values.
"""
