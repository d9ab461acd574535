"""What happens beside the loop: averages, validation, checkpoints, logs. `base` is the protocol."""
