"""One file a command: options, the call, the printing. Heavy imports are inside the functions."""
