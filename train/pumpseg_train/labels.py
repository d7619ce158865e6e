"""What class ids mean that are no class of the model."""

CROWD = -1  # a region in which nothing is learnt and nothing held against the model
OTHER = (
    -2
)  # an object of no class: its box and mask are learnt by the class-agnostic heads, as is that it is background
