"""Weights stored in fewer bits; arithmetic stays float32."""
