"""The same shards on a real cluster of two nodes on this machine, one of which is killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnctl.errors import MissingError
from tests.curation.data_sets import KILLS, digest, make, paint, reasons

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster(plugin: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores, so that all actors are on the other nodes."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_an_address_without_a_cluster_is_said_at_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(MissingError, match=f"no Ray cluster answers at {address}"):
        make(photos, engine="ray", workers=1)


def test_a_cluster_that_loses_a_node_makes_the_same_bytes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        paint(Path("many", f"{number:03d}.png"), number)
    paint(Path("many/005b.png"), 99, first=KILLS)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    removed: list[float] = []

    def kill_a_node_in_the_middle(progress: Any) -> None:
        if not removed and progress.seen >= 4:
            removed.append(progress.seen)
            cluster.remove_node(nodes[1], allow_graceful=False)

    made = make(
        "many",
        cond="brittle",
        shards=2,
        prompt="x",
        workers=2,
        engine="ray",
        on_event=kill_a_node_in_the_middle,
    )
    assert removed
    assert removed[0] < 25
    assert made.made.left == 0
    assert {n for n, reason in reasons("out").items() if reason} == {"005b.png"}
    make("many", "other", "brittle", shards=2, prompt="x", workers=1)
    assert digest("other") == digest("out")
