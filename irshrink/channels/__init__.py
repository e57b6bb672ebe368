"""Channels of a model: which must go together (groups.py, rules/), and removing them (remove.py)."""
