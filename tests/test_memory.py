"""Giving memory back works wherever this runs, and does no harm where it cannot."""

from __future__ import annotations

import ctypes

import pytest

from vavl import memory


def test_the_c_library_is_asked_where_it_can_be() -> None:
    memory.release_memory()
    memory.release_memory()


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise error

    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    memory.release_memory()
    assert memory._malloc_trim() is None
    memory._malloc_trim.cache_clear()
