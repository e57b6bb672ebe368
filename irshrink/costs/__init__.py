"""What layers cost on a target: measured in an emulator or here, or predicted from layers that were."""
