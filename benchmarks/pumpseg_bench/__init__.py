"""How fast, how near to the machine's limit and how right a model is on every execution provider: `pumpseg-bench`."""
