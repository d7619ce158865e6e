"""Data sets on disk, and the training samples made of them."""
