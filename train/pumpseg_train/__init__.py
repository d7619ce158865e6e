"""Data sets, the Keras model, losses, fitting and evaluation."""
