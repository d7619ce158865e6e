"""Metrics of a model file."""

from pumpseg_export.measure import describe_metrics, measure
from pumpseg_train.dataset.annotations import read_dataset


def test_the_metrics_of_a_file_are_those_in_its_metadata(tiny_onnx, fruit):
    from pumpseg import Segmenter

    data = read_dataset(fruit, "val")
    described = describe_metrics(data, measure(tiny_onnx, data))
    assert (described["split"], described["photos"]) == ("val", 2)
    assert described == dict(Segmenter(tiny_onnx, provider="cpu").info.metrics)
