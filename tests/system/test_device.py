"""Devices by name, and what holds while a network runs on one."""

from __future__ import annotations

import pytest
import torch

from vavl.errors import InputError
from vavl.system.device import CPU, inference, usable_device


def test_names_of_one_device_give_one_device() -> None:
    assert usable_device("cpu") == CPU
    assert usable_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("cuda:99", "warp", ""):
        with pytest.raises(InputError, match=f"device: '{name}' cannot be used here"):
            usable_device(name)


@pytest.mark.cuda
def test_the_first_gpu_is_that_without_a_number(cuda: str) -> None:
    assert usable_device(cuda) == usable_device(f"{cuda}:0") == usable_device("auto")


def test_convolutions_are_in_single_precision_on_a_gpu() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    with inference(torch.device("cuda", 0)):  # settings alone: it need not be there
        assert not cudnn.allow_tf32
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == before[1:]
    assert (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_products_are_in_the_precision_that_is_asked_for(precision: str) -> None:
    layer, x = torch.nn.Linear(2, 3), torch.ones(1, 2)
    with inference(CPU, precision):
        product = layer(x)
        assert product.dtype == getattr(torch, precision)
        assert not product.requires_grad
    assert layer(x).dtype == torch.float32
