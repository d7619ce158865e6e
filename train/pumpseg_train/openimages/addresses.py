"""Where Open Images V6 is: file names and folders as on the official servers and their mirrors."""

from dataclasses import dataclass

# Open Images' names of the splits, and ours.
SPLITS = {"train": "train", "validation": "val", "test": "test"}

CLASS_NAMES = "class-descriptions-boxable.csv"
_BOXES = {
    "train": "v6/oidv6-train-annotations-bbox.csv",
    "validation": "v5/validation-annotations-bbox.csv",
    "test": "v5/test-annotations-bbox.csv",
}


@dataclass(frozen=True)
class Addresses:
    """Base URLs, without a slash at the end."""

    annotations: str = "https://storage.googleapis.com/openimages"
    images: str = "https://s3.amazonaws.com/open-images-dataset"

    @property
    def class_names(self) -> str:
        return f"{self.annotations}/v5/{CLASS_NAMES}"

    @property
    def segmentable_classes(self) -> str:
        """MIDs, one a line, of the classes that have masks."""
        return f"{self.annotations}/v5/classes-segmentation.txt"

    def boxes(self, split: str) -> str:
        return f"{self.annotations}/{_BOXES[split]}"

    def masks(self, split: str) -> str:
        return f"{self.annotations}/v5/{split}-annotations-object-segmentation.csv"

    def archive(self, split: str, character: str) -> str:
        return f"{self.annotations}/v5/{split}-masks/{split}-masks-{character}.zip"

    def image(self, split: str, image_id: str) -> str:
        return f"{self.images}/{split}/{image_id}.jpg"


def file_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]
