"""Data sets on disk: read, written, checked, split and looked at."""
