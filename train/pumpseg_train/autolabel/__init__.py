"""Labels that nobody has to draw: by a model that is already good, or by a plain background."""
