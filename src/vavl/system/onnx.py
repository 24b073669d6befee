"""ONNX files: read as data, run by onnxruntime. Both come with the extra ``vavl[onnx]``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vavl.errors import StoreError
from vavl.system.extras import extra_module

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


def onnx_extra(module: str) -> Any:
    """Imports a module of the extra ``vavl[onnx]``, see :func:`extra_module`."""
    return extra_module(module, "onnx", "ONNX files")


def read_graph(content: bytes, name: str) -> Any:
    """Reads an ``onnx.ModelProto`` that is complete in itself; errors call it by the name.

    Raises:
        InputError: The extra is not installed.
        StoreError: Damaged, or weights lie in other files: their paths could lead anywhere.
    """
    onnx = onnx_extra("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises errors of its own
        raise StoreError(f"{name}: damaged, or no ONNX file ({error})") from error
    if not model.graph.node:
        raise StoreError(f"{name}: damaged, or no ONNX file (it has no operations)")
    external = onnx.TensorProto.EXTERNAL
    outside = [t.name for t in _tensors(model) if t.data_location == external]
    if outside:
        raise StoreError(
            f"{name}: expected all weights inside the file, got {len(outside)} in other files, "
            f"e.g. {outside[0]!r}; save it with its weights (onnx.save_model does by default)"
        )
    return model


def open_session(
    content: bytes, name: str, threads: int, device: torch.device | None = None
) -> Any:
    """Opens an ``onnxruntime.InferenceSession``, with so many threads an operation.

    It runs on the CPU; for a GPU of NVIDIA on that, if this onnxruntime has a provider for it.

    Raises:
        InputError: The extra is not installed.
        StoreError: As :func:`read_graph`, or operations that this onnxruntime does not know.
    """
    runtime = onnx_extra("onnxruntime")
    read_graph(content, name)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings are about its own optimisation
    # Between two calls the cores belong to decoding and to torch, not to threads that wait busily.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device is not None and device.type == "cuda" and _CUDA in runtime.get_available_providers():
        # In full single precision, as on the CPU.
        providers.insert(0, (_CUDA, {"device_id": device.index or 0, "use_tf32": 0}))
    try:
        session = runtime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # its errors have no base of their own
        raise StoreError(f"{name}: onnxruntime cannot run it ({error})") from error
    if device is not None and device.type != "cpu" and _CUDA not in session.get_providers():
        _log.warning(
            "%s: runs on the CPU, since this onnxruntime has no provider for %s; for a GPU of "
            "NVIDIA, pip install onnxruntime-gpu in its place",
            name,
            device,
        )
    return session


_CUDA = "CUDAExecutionProvider"


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors of a model: initial values and constants, also those in branches and loops."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    yield from _dense(graph.sparse_initializer)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[Any]:
    for attribute in itertools.chain.from_iterable(node.attribute for node in nodes):
        # An attribute that is not there reads as an empty one.
        yield from (attribute.t, *attribute.tensors)
        yield from _dense((attribute.sparse_tensor, *attribute.sparse_tensors))
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)


def _dense(tensors: Any) -> Iterator[Any]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)
