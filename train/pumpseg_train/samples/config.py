"""How training samples are drawn: the settings of augmentation."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentationConfig:
    """Probabilities and ranges of random changes; ranges are drawn log-uniformly."""

    mosaic_prob: float = 0.2  # four samples of half the size in one picture; the probabilities below hold for each
    paste_prob: float = 0.3  # objects pasted onto a background
    negative_prob: float = 0.18  # a picture without objects of the classes
    aux_prob: float = 0.15  # a photo of an auxiliary data set
    photo_scale: tuple[float, float] = (0.6, 2.4)  # 1: the photo just fits the input
    pasted_size: tuple[float, float] = (0.05, 0.7)  # longer side of a pasted object, as a fraction of the input side
    max_pasted: int = 30
    paste_onto_photos_prob: float = 0.3  # of pasting objects onto a photo of the data set too
    distractor_prob: float = 0.3  # that a pasted object is a distractor; and that a negative gets some
    distractor_photo_prob: float = 0.5  # that a negative is a photo of distractors with their masks
    variety_prob: float = 0.25  # that an object, in a photo or pasted, changes its colour and surface
    stretch: float = 1.25  # photos and pasted objects become up to this much wider or narrower

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        values = dataclasses.asdict(self)
        for name, value in values.items():
            if name.endswith("_prob") and not 0 <= value <= 1:
                raise ValueError(f"{name} = {value} is not in 0..1")
        kinds = ("negative_prob", "paste_prob", "aux_prob")
        if (total := sum(values[name] for name in kinds)) > 1:
            raise ValueError(f"{' + '.join(kinds)} = {total:g} is more than 1")
        for name, (low, high) in (("photo_scale", self.photo_scale), ("pasted_size", self.pasted_size)):
            if not 0 < low <= high:
                raise ValueError(f"{name} = {low}, {high} must be above 0 and rise")
        for name in ("max_pasted", "stretch"):
            if values[name] < 1:
                raise ValueError(f"{name} = {values[name]} is less than 1")
