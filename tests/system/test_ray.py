"""What a Ray cluster has room for; what its actors do is tested where they are used."""

from __future__ import annotations

import pytest

from vavl.errors import InputError
from vavl.system.ray import actors_that_fit, gpu_share

MACHINES = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 2.0}, {"CPU": 64.0}]


def test_gpus_are_asked_for_where_the_job_is_for_one() -> None:
    assert gpu_share(MACHINES, "cpu", 0.5) == 0
    assert gpu_share(MACHINES, "cuda", 0.5) == gpu_share(MACHINES, "auto", 0.5) == 0.5
    assert gpu_share(MACHINES[2:], "auto", 0.5) == 0
    for device in ("cuda:1", "mps"):
        with pytest.raises(InputError, match="device: expected cpu, cuda or auto on Ray"):
            gpu_share(MACHINES, device, 0.5)
    for share in (0, 1.5):
        with pytest.raises(InputError, match="gpus: expected a share of a GPU, above 0"):
            gpu_share(MACHINES, "cpu", share)


@pytest.mark.parametrize(
    ("threads", "gpus", "room"),
    [(1, 0.0, 74), (4, 0.0, 18), (1, 0.25, 4 + 2), (1, 0.3, 3 + 2), (1, 1.0, 3), (2, 0.1, 4 + 1)],
)
def test_actors_have_room_where_cpus_and_gpus_are(threads: int, gpus: float, room: int) -> None:
    assert actors_that_fit(MACHINES, threads, gpus) == room


def test_without_a_gpu_in_the_cluster_it_says_so() -> None:
    with pytest.raises(InputError, match="a machine with a GPU and 1 CPUs"):
        actors_that_fit(MACHINES[2:], 1, 0.5)
    with pytest.raises(InputError, match="threads: expected at most 64"):
        actors_that_fit(MACHINES, 65)
