"""Cameras that run unattended: several in one process, with zones, rules, events, a page and figures of health."""
