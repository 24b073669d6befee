"""A service that runs in a thread, with real workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="needs vavl[serve]")

from running_service import Service, run_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The bundled model, two workers."""
    yield from run_service(tmp_path_factory.mktemp("scratch"), workers=2, threads=1)


@pytest.fixture
def pretending(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The same service; its clips are texts that say what happens, see ``pretend_tasks``."""
    from pretend_tasks import PretendClip

    monkeypatch.setattr("vavl.service.app.PredictClip", PretendClip)
    service.idle()
    return service
