"""Tools for passes: edits with reasons, linear operators, patterns, shapes, opsets, canonical text."""
