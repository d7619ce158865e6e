import os
import time

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pumpseg import Segmenter
from pumpseg.errors import ModelFileError
from pumpseg.inference.model_file import MODELS_FOLDER
from pumpseg.inference.onnx_file import check_onnx_file


def varint(value):
    encoded = b""
    while value > 127:
        encoded, value = encoded + bytes([value & 127 | 128]), value >> 7
    return encoded + bytes([value])


def outside(location, name="outside", *, announced=True):
    """A tensor of four floats that are somewhere else. announced: its data_location says so."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    if announced:
        tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def in_constant(model, tensor):
    model.graph.node.append(helper.make_node("Constant", [], [tensor.name], value=tensor))


def in_list(model, tensor):
    node = helper.make_node("Relu", ["floats"], ["more"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
    model.graph.node.append(node)


def in_branch(model, tensor):
    branch = helper.make_graph([], "branch", [], [], [tensor])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def in_list_of_graphs(model, tensor):
    node = helper.make_node("Relu", ["floats"], ["more"])
    branch = helper.make_graph([], "branch", [], [], [tensor])
    node.attribute.add(name="graphs", type=onnx.AttributeProto.GRAPHS).graphs.append(branch)
    model.graph.node.append(node)


def in_function(model, tensor):
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    model.functions.append(helper.make_function("local", "f", [], ["y"], [constant], [helper.make_opsetid("", 17)]))


def in_sparse_initializer(model, tensor):
    model.graph.sparse_initializer.add(values=tensor, dims=[8])


def in_sparse_constant(model, tensor):
    node = helper.make_node("Constant", [], [tensor.name])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.values.CopyFrom(
        tensor
    )
    model.graph.node.append(node)


def in_training(model, tensor):
    model.training_info.add().algorithm.initializer.append(tensor)


PLACES = [
    in_initializer,
    in_constant,
    in_list,
    in_branch,
    in_list_of_graphs,
    in_function,
    in_sparse_initializer,
    in_sparse_constant,
    in_training,
]


@pytest.fixture
def changed(make_model):
    """Writes the usual model file after a change of it."""

    def write(change, name="model.onnx"):
        path = make_model(name=name)
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("place", PLACES)
def test_data_outside_of_the_file_is_refused(changed, place, location, provider):
    if provider == "openvino":
        pytest.importorskip("openvino")
    path = changed(lambda model: place(model, outside(location)))
    (path.parent / "weights.bin").write_bytes(bytes(16))
    with pytest.raises(ModelFileError, match="which model files do not") as error:
        Segmenter(path, provider=provider)
    assert "\n" not in str(error.value)


def test_a_reference_that_is_not_announced_is_refused(changed):
    path = changed(lambda model: in_initializer(model, outside("weights.bin", announced=False)))
    with pytest.raises(ModelFileError, match="keeps data outside of itself"):
        check_onnx_file(path)


def test_an_unusual_encoding_hides_nothing(make_model):
    # A number may be encoded in more bytes than it needs.
    tensor = outside("weights.bin").SerializeToString()
    assert tensor.count(b"\x70\x01") == 1, "data_location, 1"
    for written in (b"\xf0\x00\x01", b"\xf0\x80\x80\x80\x00\x81\x00"):
        hidden = tensor.replace(b"\x70\x01", written)
        graph = b"\x2a" + bytes([len(hidden)]) + hidden
        path = make_model(name="hidden.onnx")
        model = onnx.load(path)
        encoded = model.graph.SerializeToString() + graph
        model.ClearField("graph")
        path.write_bytes(model.SerializeToString() + b"\xba\x00" + varint(len(encoded)) + encoded)
        assert onnx.load(path, load_external_data=False).graph.initializer[-1].data_location
        with pytest.raises(ModelFileError, match="keeps data outside of itself"):
            check_onnx_file(path)


@pytest.mark.parametrize("domain", ["com.microsoft", "org.openvinotoolkit", "x" * 10_000])
def test_operators_of_others_are_refused(changed, domain):
    # EPContext names a file that providers load.
    context = helper.make_node("EPContext", ["floats"], ["more"], domain=domain, embed_mode=0, ep_cache_context="/x")
    with pytest.raises(ModelFileError, match=r"has an operator of .*, not of ONNX itself") as error:
        Segmenter(changed(lambda model: model.graph.node.append(context)), provider="cpu")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TensorProto(name="t", data_type=1, dims=[1 << 40, 4], raw_data=bytes(16)), "more or less data"),
        (TensorProto(name="t", data_type=1, dims=[5], raw_data=bytes(16)), "more or less data"),
        (TensorProto(name="t", data_type=1, dims=[-4], raw_data=bytes(16)), "more or less data"),
        (TensorProto(name="t", data_type=1, dims=[4]), "more or less data"),
        (TensorProto(name="t", data_type=1, dims=[4], float_data=[1] * 3), "more or less data"),
        (TensorProto(name="t", data_type=7, dims=[4], int64_data=[-1, 1, 1 << 40]), "more or less data"),
        (TensorProto(name="t", data_type=7, dims=[4], float_data=[1] * 4), "more or less data"),
        (TensorProto(name="t", data_type=1, dims=[4], float_data=[1] * 4, raw_data=bytes(16)), "more or less data"),
        (TensorProto(name="t", data_type=8, dims=[1], string_data=[b"x"]), "tensors of a kind"),
        (TensorProto(name="t", data_type=99, dims=[1], raw_data=b"x"), "tensors of type 99"),
        (TensorProto(name="t", dims=[1], raw_data=b"x"), "tensors of type 0"),
        (TensorProto(name="t", data_type=1, dims=[1] * 1000, raw_data=bytes(4)), "too many sides"),
    ],
)
def test_tensors_are_as_large_as_they_announce(changed, tensor, message):
    with pytest.raises(ModelFileError, match=message):
        check_onnx_file(changed(lambda model: model.graph.initializer.append(tensor)))


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3),
        np.zeros((0, 4), np.float32),
        np.ones((2, 3), np.float16),
        np.arange(5, dtype=np.uint8),
        np.array([True, False]),
        np.array([-1, 1 << 40]),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_as_they_are_written(changed, array, raw):
    tensor = numpy_helper.from_array(np.asarray(array), "t")
    if not raw:
        tensor = helper.make_tensor("t", tensor.data_type, tensor.dims, np.asarray(array).ravel())
    check_onnx_file(changed(lambda model: model.graph.initializer.append(tensor)))


def test_the_shipped_files_pass():
    paths = sorted(MODELS_FOLDER.glob("*.onnx"))
    assert len(paths) == 4
    for path in paths:
        check_onnx_file(path)


def test_weights_are_not_read(changed, tmp_path):
    """A file of 4 GiB would take seconds; one of 1 GiB takes none. It is a hole on the disk, never written."""
    tensor = TensorProto(name="t", data_type=1, dims=[1 << 28])
    raw_field = b"\x4a" + bytes([0x80, 0x80, 0x80, 0x80, 0x04])  # raw_data, 1 GiB
    head = tensor.SerializeToString() + raw_field
    size = (1 << 30) + len(head)
    model = onnx.load(changed(lambda model: None))
    graph = model.graph.SerializeToString()
    initializer = b"\x2a" + varint(size) + head
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(b"\x3a" + varint(len(graph) + len(initializer) + (1 << 30)) + graph + initializer)
        file.truncate(file.tell() + (1 << 30))
    began = time.process_time()
    check_onnx_file(path)
    assert time.process_time() - began < 0.5
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ModelFileError, match="damaged or cut short"):
        check_onnx_file(path)


@pytest.mark.parametrize("content", [b"", b"text", b"<?xml version='1.0'?>", b"\x08\x08", bytes(1000), b"\x0b\x0c"])
def test_what_is_not_onnx(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x\.onnx is not an ONNX file that runs here: "):
        check_onnx_file(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read: No such file"):
        check_onnx_file(tmp_path / "none.onnx")


def test_two_graphs_are_refused(make_model):
    path = make_model()
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ModelFileError, match="has 2 graphs"):
        check_onnx_file(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(b"pumpseg", b"x" * (1 << 20))], "more than 1 MiB"),
        ([(b"pumpseg", b"{}"), (b"pumpseg", b"{}")], "same key"),
        ([(b"pumpseg", b"\xff\xfe")], "not UTF-8"),
    ],
)
def test_metadata_are_text_of_moderate_length(make_model, entries, message):
    path = make_model(None)
    encoded = [b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value for key, value in entries]
    path.write_bytes(path.read_bytes() + b"".join(b"\x72" + varint(len(entry)) + entry for entry in encoded))
    with pytest.raises(ModelFileError, match=message):
        check_onnx_file(path)


def test_a_file_of_nothing_but_parts_ends(make_model, tmp_path):
    path = tmp_path / "parts.onnx"
    path.write_bytes(make_model().read_bytes() + b"\x08\x08" * 1_100_000)
    with pytest.raises(ModelFileError, match="too many parts"):
        check_onnx_file(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_one_line(make_model, data):
    path = make_model(name="damaged.onnx")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        check_onnx_file(path)
    except ModelFileError as error:
        assert "\n" not in str(error)


def test_the_format_does_not_depend_on_the_name(make_model):
    # ONNX Runtime takes .ort, and OpenVINO .xml and .pb, for other formats.
    pytest.importorskip("openvino")
    for name, provider in (("x.ort", "cpu"), ("x.xml", "openvino"), ("x.pb", "openvino"), ("x", "openvino")):
        assert Segmenter(make_model(name=name), provider=provider).class_names == ("pumpkin",)
