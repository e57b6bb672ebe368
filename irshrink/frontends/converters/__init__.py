"""Scripts that other interpreters run; irshrink itself never imports them (see ``process.py``)."""
