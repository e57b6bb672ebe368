"""Runs Cortex-M builds in the unicorn emulator, counts their instructions and watches their memory."""
