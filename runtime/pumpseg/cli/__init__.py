"""The command pumpseg-video: arguments, the run, the process around it."""
