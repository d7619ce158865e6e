"""Runs the unmodified PyPI package `mrcnn==0.2` (Matterport, Keras 2.0.8 on TensorFlow 1) on tf-keras 2.21.

`import mrcnn_shim` before `import mrcnn.model`. A meta-path finder executes the `mrcnn.*` modules with a
private `__import__`, so that inside them tensorflow is tf.compat.v1, keras is tf_keras, and skimage resizes as in
2018, while the real modules stay as they are for everybody else. One effect is global: eager execution is off in this
process, so the reference runs in a process of its own.
"""

import builtins
import functools
import importlib.machinery
import os
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # plain Eigen kernels: the same figures on every run

import numpy as np
import skimage
import skimage.color
import skimage.io
import skimage.transform
import tensorflow as tf
import tf_keras
from tf_keras.src.saving.legacy import hdf5_format

v1 = tf.compat.v1
v1.disable_eager_execution()


def _module(name, base=None, **over):
    """A module that answers `over` first and leaves the rest to `base`."""
    module = types.ModuleType(name)
    module.__dict__.update(over)
    if base is not None:
        module.__getattr__ = lambda attribute: getattr(base, attribute)
    return module


# A Lambda layer of tf_keras refuses tf.Variable; the only one, the anchors, is never updated.
TENSORFLOW = _module(
    "tensorflow", v1, Variable=lambda value, *_, **__: tf.constant(value, tf.float32), __version__=tf.__version__
)


class Layer(tf_keras.layers.Layer):
    """keras.engine.Layer. Keras 2.0.8 took static shapes from compute_output_shape(); tf_keras infers them from the
    tensors, which loses them (NMS padding) or gets them wrong (PyramidROIAlign's leading 1). They are put back here."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        call = cls.__dict__.get("call")
        if call is None:
            return

        @functools.wraps(call)
        def wrapped(self, inputs):
            output = call(self, inputs)
            shapes = self.compute_output_shape([tuple(tensor.shape.as_list()) for tensor in inputs])
            single = not isinstance(output, (list, tuple))
            outputs, shapes = ([output], [shapes]) if single else (list(output), shapes)
            for index, (tensor, shape) in enumerate(zip(outputs, shapes, strict=True)):
                if len(shape) < 3:  # DetectionTargetLayer declares class_ids as (None, 1), which is wrong
                    continue
                if cls.__name__ == "PyramidROIAlign":
                    outputs[index] = tf.reshape(tensor, (-1, *shape[1:]))
                else:
                    tensor.set_shape((None, *shape[1:]))
            return outputs[0] if single else outputs

        cls.call = wrapped


class _Group:
    """What hdf5_format wants to see of a model."""

    def __init__(self, layers):
        self.layers = list(layers)
        self._trainable_weights = self._non_trainable_weights = []

    def _flatten_layers(self):
        return iter(())


saving = _module(
    "keras.engine.saving",
    load_weights_from_hdf5_group_by_name=lambda file, layers: hdf5_format.load_weights_from_hdf5_group_by_name(
        file, _Group(layers)
    ),
    load_weights_from_hdf5_group=lambda file, layers: hdf5_format.load_weights_from_hdf5_group(file, _Group(layers)),
)


class _MetricSink:
    """model.metrics_tensors: mrcnn appends mean(<name>/...) * weight."""

    def __init__(self, model):
        self.model = model

    def append(self, tensor):
        name = tensor.op.inputs[0].op.inputs[0].op.name.split("/")[0]
        self.model.add_metric(tensor, name=name, aggregation="mean")


def Model(*arguments, **options):  # noqa: N802
    model = tf_keras.Model(*arguments, **options)
    # mrcnn assigns model._losses = [] / {}, which tf_keras would wrap and track.
    model._self_setattr_tracking = False
    model.metrics_tensors, model.uses_learning_phase = _MetricSink(model), False
    # add_loss() of a functional model is for good: each train() would count all losses again. A list that starts
    # afresh after each compile() takes them instead.
    losses, state, compile_, fit = [], {"sealed": False}, model.compile, model.fit_generator

    def add_loss(tensor):
        if state["sealed"]:
            losses.clear()
            state["sealed"] = False
        losses.append(tensor)

    def compile_and_seal(**kwargs):
        compile_(**kwargs)
        state["sealed"] = True

    def fit_generator(generator, **kwargs):  # no forked generators under TensorFlow's threads
        kwargs.update(workers=1, use_multiprocessing=False, max_queue_size=4)
        kwargs.setdefault("verbose", 2)
        return fit(generator, **kwargs)

    model.add_loss, model.compile, model.fit_generator = add_loss, compile_and_seal, fit_generator
    model.get_losses_for = lambda inputs: [] if inputs is not None else list(losses)
    # set_trainable() goes into rpn_model by the class name "Model".
    model.__class__ = type("Model", (type(model),), {"losses": property(lambda self: list(losses))})
    return model


def SGD(lr, momentum=0.0, clipnorm=None, **options):  # noqa: N802
    # `clipnorm` of Keras <= 2.2 is the norm over all gradients, that of tf_keras is per variable.
    return tf_keras.optimizers.legacy.SGD(learning_rate=lr, momentum=momentum, global_clipnorm=clipnorm, **options)


engine = _module("keras.engine", Layer=Layer, saving=saving, topology=saving)
models = _module("keras.models", tf_keras.models, Model=Model)
data_utils = _module("keras.utils.data_utils", get_file=tf_keras.utils.get_file)
KERAS = _module(
    "keras",
    tf_keras,
    __version__="2.1.6",
    backend=tf_keras.backend,
    layers=tf_keras.layers,
    engine=engine,
    models=models,
    utils=_module("keras.utils", tf_keras.utils, data_utils=data_utils),
    optimizers=_module("keras.optimizers", tf_keras.optimizers, SGD=SGD),
)


def resize(image, shape, order=1, mode="constant", preserve_range=False, anti_aliasing=False, **options):
    """skimage 0.13: no anti-aliasing (0.15 and later blur when shrinking), bool interpolated as float."""
    image = np.asarray(image)
    return skimage.transform.resize(
        image.astype(float) if image.dtype == bool else image,
        shape,
        order=order,
        mode=mode,
        preserve_range=preserve_range,
        anti_aliasing=False,
        **options,
    )


transform = _module("skimage.transform", skimage.transform, resize=resize)


class LooseVersion:
    def __init__(self, version):
        self.parts = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")]

    def __ge__(self, other):
        return self.parts >= other.parts


version = _module("distutils.version", LooseVersion=LooseVersion)

MODULES = {
    "tensorflow": TENSORFLOW,
    "keras": KERAS,
    "keras.backend": KERAS.backend,
    "keras.layers": KERAS.layers,
    "keras.engine": engine,
    "keras.engine.saving": saving,
    "keras.models": models,
    "keras.utils.data_utils": data_utils,
    "skimage": _module("skimage", skimage, transform=transform),
    "skimage.transform": transform,
    "skimage.color": skimage.color,
    "skimage.io": skimage.io,
    "distutils": _module("distutils", version=version),
    "distutils.version": version,
}


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name in MODULES:
        return MODULES[name] if fromlist else MODULES[name.partition(".")[0]]
    return builtins.__import__(name, globals, locals, fromlist, level)


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        module.__dict__["__builtins__"] = dict(vars(builtins), __import__=_import)
        exec(self.get_code(module.__name__), module.__dict__)


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("mrcnn."):
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                spec.loader = _Loader(spec.loader.name, spec.loader.path)
            return spec
        return None


sys.meta_path.insert(0, _Finder)
