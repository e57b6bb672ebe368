"""How good answers are: one class a metric, chosen by name in table.py."""
