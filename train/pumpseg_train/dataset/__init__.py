"""Data sets on disk: read, written, checked, divided and shown."""
