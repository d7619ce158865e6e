"""Latency and fps of the runtime across execution providers."""
