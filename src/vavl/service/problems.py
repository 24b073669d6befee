"""What went wrong with a request, for whoever sent it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """Becomes an answer of ``application/problem+json``.

    Source: RFC 9457.

    Args:
        status: HTTP status.
        detail: What was expected, what was got, and what to do.
        retry_after_s: When to ask again.
    """

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }

    @property
    def headers(self) -> dict[str, str]:
        """Beside the type of the body."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
