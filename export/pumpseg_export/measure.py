"""How well a model file detects the instances of a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg import Segmenter
from pumpseg_train.dataset.annotations import Dataset, read_dataset
from pumpseg_train.evaluation.metrics import Metrics, evaluate


@dataclass(frozen=True)
class EvaluationSet:
    """One split of a data set."""

    dataset: Dataset
    split: str

    @classmethod
    def read(cls, folder: Path, split: str) -> "EvaluationSet":
        """Raises PumpsegError for a data set that cannot be used."""
        return cls(read_dataset(folder, split), split)

    @property
    def photos(self) -> list[Path]:
        return [photo.path for photo in self.dataset.photos]

    def measure(self, file: Path) -> Metrics:
        """The metrics of a model file on the CPU, with the lowest threshold that it allows."""
        return evaluate(self.dataset, Segmenter(file, provider="cpu", threshold=0.0))

    def describe(self, metrics: Metrics) -> dict[str, Any]:
        """The "metrics" of the file's metadata."""
        return {"split": self.split, "photos": len(self.dataset.photos), **metrics.to_json()}
