"""The description of the API, and requests made up from it."""

from __future__ import annotations

import pytest
from running_service import Service

pytest.importorskip("schemathesis", reason="needs vavl[dev]")


def test_no_request_is_too_strange(service: Service) -> None:
    """Whatever is sent, the answer is one of those that are described, and no defect."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import Case, openapi
    from schemathesis.specs.openapi.checks import status_code_conformance

    tried = []
    for operation in openapi.from_url(f"{service.address}/openapi.json").get_all_operations():
        asked = operation.ok()

        @given(case=asked.as_strategy())
        @settings(
            max_examples=25,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Case) -> None:
            answer = case.call(timeout=60)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            case.validate_response(answer, checks=[status_code_conformance])

        ask()
        tried.append(asked.label)
    assert len(tried) == 10
    service.idle()


def test_everything_is_described(service: Service) -> None:
    described = service.client.get("/openapi.json").json()
    assert set(described["paths"]) >= {
        *("/v1/predictions", "/v1/predictions/{id}", "/v1/predictions/{id}/events"),
        *("/v1/profiles", "/v1/model", "/v1/model/card", "/healthz", "/readyz", "/metrics"),
    }
    assert "schema_version" in str(described["components"]["schemas"]["Clip"])
    for operations in described["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
    page = service.client.get("/docs").text
    for asset in ("/docs/assets/swagger-ui.css", "/docs/assets/swagger-ui-bundle.js"):
        assert asset in page
        assert service.client.get(asset).status_code == 200
