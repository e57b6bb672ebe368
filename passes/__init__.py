"""Every built-in pass: its name on the command line and in recipes, and where it lives."""

BUILTIN_PASSES: dict[str, str] = {}
