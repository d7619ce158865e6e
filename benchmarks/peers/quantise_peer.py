"""int8 files of a peer's network: by ONNX Runtime's static QDQ, and by OpenVINO's NNCF."""

from pathlib import Path

import onnx


def quantise_onnx(source: Path, target: Path, inputs: list[dict]) -> None:
    """Static QDQ by ONNX Runtime: weights int8 with one scale per channel, activations uint8, MinMax over `inputs`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self):
            return next(self._inputs, None)

    prepared = target.with_suffix(".prepared")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()
    # Ultralytics reads classes and stride from the file.
    model, metadata = onnx.load(target), onnx.load(source).metadata_props
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    onnx.save(model, target)


def quantise_openvino(source: Path, target: Path, inputs: list[dict], *, transformer: bool) -> None:
    """Post-training quantisation by NNCF, with its defaults for such a network, calibrated on `inputs`."""
    import nncf
    import openvino

    quantised = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(inputs),
        subset_size=len(inputs),
        model_type=nncf.ModelType.TRANSFORMER if transformer else None,
    )
    openvino.save_model(quantised, target, compress_to_fp16=False)
