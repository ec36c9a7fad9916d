"""What detectors cost for each image, alone and in batches of four: is batching worth it?

    python tests/benchmarks/detectors.py [--device cpu] [--size 512] [--runs 3]

The true networks with random weights. Prints the least time of each in milliseconds per image.
"""

import argparse
import time
from collections.abc import Callable

import torch
from cnctl_conditions.shared.networks import import_network

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "hed": lambda: import_network("hed", "ControlNetHED_Apache2")(),
    "softedge-pidi": lambda: import_network("pidi.model", "pidinet")(),
    "lineart": lambda: import_network("lineart", "Generator")(3, 1, 3),
    "openpose": lambda: import_network("open_pose.model", "bodypose_model")(),
}
BATCH = 4


def seconds(network: torch.nn.Module, batch: torch.Tensor) -> float:
    """Wall time of one run, to its end also on a GPU."""
    start = time.perf_counter()
    network(batch)
    if batch.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    for name, build in NETWORKS.items():
        network = build().eval().to(chosen.device)
        least = {}
        for count in (1, BATCH):
            images = torch.rand(count, 3, chosen.size, chosen.size, device=chosen.device)
            took = [seconds(network, images) / count for _ in range(chosen.runs + 1)][1:]
            least[count] = 1000 * min(took)
        print(
            f"{name:14} alone {least[1]:7.0f} ms  in fours {least[BATCH]:7.0f} ms  "
            f"{least[1] / least[BATCH]:5.2f}x"
        )


if __name__ == "__main__":
    main()
