"""Class ids of regions that belong to no class of the model."""

CROWD = -1  # a region in which nothing is learnt and nothing held against the model
OTHER = -2
"""An object of no class: the class-agnostic heads learn its box and mask, and that it is background."""
