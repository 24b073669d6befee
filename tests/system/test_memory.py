"""Freed memory is given back or kept wherever this runs; nothing is harmed where it cannot be."""

from __future__ import annotations

import ctypes

import pytest

from vavl.system import memory


def test_the_c_library_is_asked_where_it_can_be() -> None:
    memory.release_memory()
    memory.release_memory()


@pytest.mark.parametrize("largest", [2**31 - 1, 2**25])
def test_thresholds_are_as_high_as_the_c_library_takes(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        if name == -3 and value > largest:  # as old ones do
            return 0
        taken[name] = value
        return 1

    monkeypatch.setattr(memory, "_c_function", {"mallopt": mallopt}.get)
    memory.keep_memory()
    assert taken == {-1: 2**31 - 1, -3: largest}


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise error

    memory._c_function.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    memory.release_memory()
    memory.keep_memory()
    assert memory._c_function("mallopt") is None
    memory._c_function.cache_clear()
