"""Training samples, composed and augmented from data sets."""
