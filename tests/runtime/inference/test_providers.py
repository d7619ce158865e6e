import dataclasses
import logging
import os
import subprocess
import sys
import types

import numpy as np
import onnxruntime
import pytest

from pumpseg import Segmenter
from pumpseg.errors import ProviderError
from pumpseg.inference import providers
from pumpseg.inference.bound_session import BoundSession, FixedSession
from pumpseg.inference.model import Model
from pumpseg.inference.providers import PROVIDERS, open_session


@pytest.fixture
def pretend(monkeypatch):
    """Makes onnxruntime claim more providers than it can load, as a GPU wheel without CUDA does.

    Calling it returns a list, to which every session adds the providers that it was asked for.
    """

    def make(available, loads, fails=(), refused=()):
        asked = []

        class Session(onnxruntime.InferenceSession):
            def __init__(self, path, options, providers, **kwargs):
                for option in refused:
                    if any(option in values for _, values in providers):
                        raise RuntimeError(f"this session cannot use {option}")
                super().__init__(path, options, providers=["CPUExecutionProvider"], **kwargs)
                self.options = dict(providers)
                self.asked = [name for name, _ in providers]
                asked.append(self.asked)

            def get_providers(self):
                return [name for name in self.asked if name in loads]

            def run_with_iobinding(self, *arguments):
                if self.asked[0] in fails:
                    raise RuntimeError("no kernel image")
                return super().run_with_iobinding(*arguments)

        fake = types.SimpleNamespace(**{name: getattr(onnxruntime, name) for name in dir(onnxruntime)})
        fake.InferenceSession = Session
        fake.get_available_providers = lambda: available
        monkeypatch.setattr(providers, "import_onnxruntime", lambda: fake)
        # There is no CUDA memory to bind the input to.
        for name in ("cuda", "tensorrt"):
            on_cpu = dataclasses.replace(PROVIDERS[name], device="cpu")
            monkeypatch.setitem(providers.PROVIDERS, name, on_cpu)
        return asked

    return make


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_an_unknown_provider_is_refused(model_path):
    with pytest.raises(ProviderError, match=r"unknown provider 'gpu'; there are auto, cpu, cuda"):
        open_session(model_path, "gpu")


def test_a_provider_that_is_not_compiled_in_names_the_pip_command(model_path):
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ProviderError, match=r'which has cpu.*pip install "pumpseg\[(headless-)?gpu\]"'):
        open_session(model_path, "cuda")


def test_a_provider_that_falls_back_in_silence_is_an_error(model_path, pretend):
    pretend([CUDA, CPU], loads=[CPU])
    with pytest.raises(ProviderError, match=r"cuda did not load.*cpu would run instead"):
        open_session(model_path, "cuda")


def test_auto_takes_the_next_that_loads_and_says_why(model_path, pretend, caplog):
    pretend([CUDA, CPU], loads=[CPU])
    with caplog.at_level(logging.INFO, "pumpseg"):
        name = Model.open(model_path, "auto").provider
    assert name == "cpu"
    assert len(caplog.messages) == 1
    assert "provider cpu: provider cuda did not load" in caplog.messages[0]
    assert "\n" not in caplog.messages[0]


def test_auto_prefers_what_is_fast(model_path, pretend, caplog):
    asked = pretend([CPU, CUDA], loads=[CPU, CUDA])
    with caplog.at_level(logging.INFO, "pumpseg"):
        name = Model.open(model_path, "auto").provider
    assert name == "cuda"
    assert asked == [[CUDA, CPU]]
    assert caplog.messages == ["provider cuda: the best of cuda, cpu"]


def test_a_provider_that_loads_but_cannot_run_is_an_error(model_path, pretend, caplog):
    pretend([CUDA, CPU], loads=[CUDA, CPU], fails=[CUDA])
    with pytest.raises(ProviderError, match="cuda loads but cannot run the model: no kernel image"):
        open_session(model_path, "cuda")
    with caplog.at_level(logging.INFO, "pumpseg"):
        assert Model.open(model_path, "auto").provider == "cpu"
    assert "no kernel image" in caplog.messages[0]


def test_a_provider_that_prepares_kernels_for_each_number_of_rois_gets_few_numbers(pretend):
    pretend([CUDA, CPU], loads=[CUDA, CPU])
    for provider, multiple in (("cuda", 32), ("cpu", 1)):
        model = Model.open("fast-fp32", provider)
        image, _ = model.prepare(np.zeros((48, 64, 3), np.uint8))
        assert model.inputs(image)["rois_multiple"].tolist() == [multiple]
        assert len(model.run(image).scores) == 0


def test_a_static_file_runs_on_cuda_as_one_graph_with_fixed_buffers(static_model_path, model_path, pretend, caplog):
    pretend([CUDA, CPU], loads=[CUDA, CPU])
    with caplog.at_level(logging.INFO, "pumpseg"):
        session = open_session(static_model_path, "cuda")
    assert isinstance(session, FixedSession)
    assert session.get_inputs.__self__.options[CUDA]["enable_cuda_graph"] == "1"
    assert "static.onnx has fixed shapes: it runs on cuda with enable_cuda_graph" in caplog.text
    dynamic = open_session(model_path, "cuda")
    assert isinstance(dynamic, BoundSession)
    assert "enable_cuda_graph" not in dynamic.get_inputs.__self__.options[CUDA]


def test_a_static_file_gives_the_same_instances_on_cuda(static_model_path, model_path, pretend, square_frame):
    pretend([CUDA, CPU], loads=[CUDA, CPU])
    wanted, found = (Segmenter(path, provider="cuda")(square_frame) for path in (model_path, static_model_path))
    assert len(wanted)
    assert sorted(found.boxes.tolist()) == sorted(wanted.boxes.tolist())


@pytest.mark.parametrize("refused", [True, False])
def test_a_static_file_that_no_graph_can_hold_runs_without_and_that_is_said(
    static_model_path, pretend, caplog, monkeypatch, refused
):
    pretend([CUDA, CPU], loads=[CUDA, CPU], refused=["enable_cuda_graph"] if refused else [])
    if not refused:
        monkeypatch.setattr(FixedSession, "run", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING, "pumpseg"):
        session = open_session(static_model_path, "cuda")
    assert isinstance(session, BoundSession)
    assert "static.onnx runs on cuda without enable_cuda_graph" in caplog.text


def test_a_profile_of_a_static_file_lists_its_nodes(static_model_path, pretend, tmp_path):
    pretend([CUDA, CPU], loads=[CUDA, CPU])
    assert isinstance(open_session(static_model_path, "cuda", profile=tmp_path / "nodes"), BoundSession)


def test_tensorrt_hands_what_it_cannot_run_to_cuda(model_path, pretend, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = pretend(["TensorrtExecutionProvider", CUDA, CPU], loads=["TensorrtExecutionProvider", CUDA, CPU])
    open_session(model_path, "tensorrt")
    assert asked == [["TensorrtExecutionProvider", CUDA, CPU]]
    assert (tmp_path / "pumpseg" / "tensorrt").is_dir()


@pytest.mark.parametrize(("instructions", "exact"), [("", "1"), ("avx512_vnni", "0")])
def test_int8_is_slowed_down_only_where_it_would_overflow(instructions, exact, monkeypatch):
    monkeypatch.setattr(providers, "int8_dot_product", lambda: instructions)
    options = providers.session_options(onnxruntime, PROVIDERS["cpu"], None, None)
    assert options.get_session_config_entry("session.x64quantprecision") == exact


def test_every_provider_makes_session_options():
    for provider in PROVIDERS.values():
        options = providers.session_options(onnxruntime, provider, 1, None)
        assert options.intra_op_num_threads == 1
        assert all(isinstance(value, str) for value in provider.options().values())


@pytest.mark.parametrize(("allow_spinning", "entries"), [(None, ("1", "1")), (True, ("1", "0")), (False, ("0", "0"))])
def test_spinning(allow_spinning, entries):
    options = providers.session_options(onnxruntime, PROVIDERS["cpu"], None, allow_spinning)
    assert entries == (
        options.get_session_config_entry("session.intra_op.allow_spinning"),
        options.get_session_config_entry("session.force_spinning_stop"),
    )


@pytest.mark.parametrize("said", [None, "0"])
def test_telemetry_is_off_unless_the_user_set_it(said, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "CI", "XDG_"))}
    environment |= {"HOME": str(tmp_path), **({} if said is None else {"ORT_DISABLE_TELEMETRY": said})}
    code = "from pumpseg import Segmenter; import os; Segmenter(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (said or "1")
    if said is None:
        assert not list(tmp_path.rglob("*onnxruntime*")), "neither a device id nor a store of events"
