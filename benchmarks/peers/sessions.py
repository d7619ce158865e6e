"""What peers take for onnxruntime.InferenceSession: with a set number of threads, timed, and on OpenVINO where wanted.

Packages differ in which runtimes and settings they offer. Here each keeps its own pre- and post-processing, and all
networks run alike.
"""

from time import perf_counter

import numpy as np
import onnxruntime

from pumpseg.inference.openvino_session import compile_for_cpu

# As pumpseg sets them: bfloat16 would be neither float32 nor int8.
_OPENVINO_OPTIONS = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}


class Sessions:
    """Opens sessions in place of ONNX Runtime.

    openvino: the file that OpenVINO runs instead, if any. recorded: gets the inputs of all runs, if it is a list.
    last: the session opened last.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._open = onnxruntime.InferenceSession
        self.openvino: str | None = None
        self.recorded: list[dict] | None = None
        self.last: TimedSession | None = None
        onnxruntime.InferenceSession = self.open

    def open(self, path, sess_options=None, *arguments, **options):
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = self._threads
        sess_options.log_severity_level = 3
        # As in pumpseg: threads must not poll while another row is measured.
        sess_options.add_session_config_entry("session.force_spinning_stop", "1")
        session = self._open(path, sess_options, *arguments, **options)
        run = session.run if self.openvino is None else self._on_openvino(self.openvino, session)
        self.last = TimedSession(session, run, self.recorded)
        return self.last

    def _on_openvino(self, file: str, session):
        compiled = compile_for_cpu(file, {**_OPENVINO_OPTIONS, "INFERENCE_NUM_THREADS": self._threads})
        request = compiled.create_infer_request()
        order = [output.name for output in session.get_outputs()]

        def run(names, inputs):
            results = request.infer(inputs, share_inputs=True)
            return [results[order.index(name)] for name in names or order]

        return run


class TimedSession:
    """A session whose runs are timed."""

    def __init__(self, session, run, recorded: list[dict] | None) -> None:
        self._session, self._run, self._recorded = session, run, recorded
        self.milliseconds = 0.0

    def run(self, names, inputs, *_):
        if self._recorded is not None:
            self._recorded.append({name: np.array(value) for name, value in inputs.items()})
        start = perf_counter()
        outputs = self._run(names, inputs)
        self.milliseconds = 1000 * (perf_counter() - start)
        return outputs

    def __getattr__(self, name):
        return getattr(self._session, name)
