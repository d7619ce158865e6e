"""A model file and what runs it: letterbox, session, execution providers, tiles."""
