"""A training run: settings, schedule, checkpoints, resuming."""
