"""A device that is not there: it computes on the CPU, and refuses what a real one would refuse.

Tensors on it hold their numbers in a tensor on the CPU. Each operation checks that its tensors lie
together, as a GPU does: none of them on the CPU, unless it has a single number, or is an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
"""A kind of device that torch knows by name and does not need to be built for."""
DEVICE = torch.device(NAME)

_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXED = (_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default)


class There(torch.Tensor):
    """A tensor on the device."""

    here: torch.Tensor
    """Its numbers."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        there = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
            requires_grad=here.requires_grad,
        )
        there.here = here
        return there

    def __repr__(self) -> str:
        return f"There({self.here})"

    def tolist(self) -> Any:
        return self.here.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return _run(operation, arguments, options or {})


class _Mode(TorchDispatchMode):
    """Makes tensors on the device where code asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it would be imported, for seconds, to be told to do nothing

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return _run(operation, arguments, options or {}, self)


@contextmanager
def pretend_device() -> Iterator[_Mode]:
    """Inside there is the device :data:`NAME`; ``operations`` counts what was computed on it."""
    # Tensors of inference mode keep no account of views, as those of a subclass do.
    with _Mode() as mode, patch.object(torch, "inference_mode", torch.no_grad):
        yield mode


def _run(operation: Any, arguments: Any, options: dict[str, Any], mode: _Mode | None = None) -> Any:
    tensors = [x for x in tree_flatten((arguments, options))[0] if isinstance(x, torch.Tensor)]
    asked = options.get("device")
    there = any(isinstance(x, There) for x in tensors)
    if asked is not None:
        options = {**options, "device": torch.device("cpu")}
        to_device = torch.device(asked).type == NAME
    else:
        to_device = there
    if there and operation not in _COPIES:
        first = tensors[0] if operation in _INDEXED else None
        apart = [x for x in tensors if not isinstance(x, There) and x.ndim]
        if operation in _INDEXED and isinstance(first, There):
            apart = [x for x in apart if x.dtype.is_floating_point]
        if apart:
            raise RuntimeError(f"{operation}: tensors on {NAME} and on the CPU: {apart}")
        if mode is not None:
            mode.operations += 1
    arguments, options = tree_map(
        lambda x: x.here if isinstance(x, There) else x, (arguments, options)
    )
    result = operation(*arguments, **options)
    if operation is _aten.copy_.default:
        return tensors[0]
    if not to_device:
        return result
    changed = {id(x.here): x for x in tensors if isinstance(x, There)}  # in place

    def moved(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return changed[id(x)] if id(x) in changed else There(x)

    return tree_map(moved, result)
