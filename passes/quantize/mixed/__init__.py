"""Mixed precision: how much each layer's weights may be rounded, and which bits each one gets."""
