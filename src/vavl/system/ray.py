"""Joining a cluster of `Ray <https://docs.ray.io>`_, for ``--engine ray``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vavl.errors import InputError
from vavl.system.extras import extra_module

_PURPOSE = "--engine ray"


@contextmanager
def ray_cluster(library: str) -> Iterator[Any]:
    """Joins a cluster, unless that was done already, and leaves it again; keeps Ray quiet.

    The cluster is the one that ``RAY_ADDRESS`` names, or that runs on this machine. Where there is
    none, Ray is started here for as long.

    Args:
        library: The part of Ray that is used inside, e.g. ``"data"``.

    Yields:
        The module ``ray``, that part loaded.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    ray = extra_module("ray", "ray", _PURPOSE)
    extra_module(f"ray.{library}", "ray", _PURPOSE)
    joined = not ray.is_initialized()
    if joined:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage report is sent
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"RAY_ADDRESS: expected the address of a Ray cluster that runs, got none: {error}"
            ) from error
    logger = logging.getLogger(f"ray.{library}")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        logger.setLevel(level)
        if joined:
            ray.shutdown()


def machine_resources(ray: Any) -> list[dict[str, float]]:
    """What each machine of the cluster has, e.g. ``{"CPU": 8.0, "GPU": 1.0}``."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
