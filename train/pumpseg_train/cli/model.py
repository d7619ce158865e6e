"""A model by what users name it: an ONNX file, a shipped model, the folder of a training run, or a Matterport .h5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from pumpseg_train.evaluation.metrics import Predict
    from pumpseg_train.model.profile import Profile


@dataclass(frozen=True)
class LoadedModel:
    """`predict` gives every detection down to the score threshold of the model; input_size is (h, w); threshold is the
    one that the model recommends."""

    predict: Predict
    input_size: tuple[int, int]
    threshold: float = DEFAULT_THRESHOLD


def load_model(name: str, provider: str = "cpu", threads: int | None = None, tiles: int = 1) -> LoadedModel:
    """Provider, threads and tiles are those of an ONNX file's Segmenter; only a training run needs Keras.

    Raises:
        PumpsegError: there is no such model, or it cannot be loaded.
    """
    if Path(name).is_dir():
        if tiles > 1:
            raise PumpsegError(f"--tiles takes an ONNX file: pumpseg-export {name} -o model.onnx makes one")
        from pumpseg_train.training.predictor import predictor
        from pumpseg_train.training.run import load_run

        model = load_run(Path(name))
        return LoadedModel(predictor(model), model.profile.input_size)
    from pumpseg import Segmenter

    segmenter = Segmenter(name, provider=provider, threads=threads, threshold=0.0, tiles=tiles)
    return LoadedModel(segmenter, segmenter.info.input_size, segmenter.info.recommended_threshold)


def load_weights_model(weights: Path, profile: Profile, classes: tuple[str, ...]) -> LoadedModel:
    """The model of a Matterport `.h5`, run by Keras. Raises WeightsError for another file."""
    from pumpseg_train.matterport.weights_file import load_whole
    from pumpseg_train.training.predictor import predictor

    return LoadedModel(predictor(load_whole(weights, profile, classes)), profile.input_size)
