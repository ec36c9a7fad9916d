"""Examples a second from shards: on this disk, streamed by ranges, and streamed as whole shards.

    python tests/benchmarks/streaming.py [--latency 0.02] [--workers 0 2 8]

A web server on the loopback waits before each answer as a distant one would. Ranges bring each
example by its own request, in the order of training: shuffled over all shards. The package
webdataset, where it is installed, reads each shard from its beginning to its end.
"""

import argparse
import io
import multiprocessing
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from cnctl.data import Selection, TrainingPairs, open_dataset
from cnctl.images import read_hint, read_image
from cnctl.settings import TrainSettings
from cnctl.training.data_loader import read_batches

SHARDS, EACH, SIDE, BATCH = 8, 100, 512, 4
CAT = Path(__file__).parents[2] / "examples" / "images" / "cat.jpg"


def write_shards(folder: Path) -> None:
    """Photographs of SIDE pixels with edges for hints, and words."""
    photo = Image.open(CAT).convert("RGB").resize((2 * SIDE, 2 * SIDE))
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for number in range(EACH):
                left, top = (int(at) for at in rng.integers(0, SIDE, 2))
                image = photo.crop((left, top, left + SIDE, top + SIDE))
                for kind, data in {
                    "jpg": encoded(image, "JPEG"),
                    "hint.png": encoded(image.convert("L").point(lambda v: v & 128), "PNG"),
                    "txt": b"a cat",
                }.items():
                    info = tarfile.TarInfo(f"{number:04}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def encoded(image: Image.Image, kind: str) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def run_server(folder: Path, latency: float, told: Connection) -> None:
    """In a separate process, so that it takes no time from the reader."""
    spec = spec_from_file_location("range_server", Path(__file__).parents[1] / "range_server.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serve(folder, latency=latency) as server:
        told.send(server.url)
        told.recv()


def detect(image: np.ndarray, rng: np.random.Generator | None) -> None:
    """All have hints."""


def read_grey(source: Path | bytes) -> np.ndarray:
    """A hint of one channel."""
    return read_hint(source, channels=1)


def ours(spec: str, workers: int) -> Iterable[object]:
    """As training reads them."""
    dataset = open_dataset(spec, read_hint=read_grey)
    pairs = TrainingPairs(dataset=dataset, sizes=[(SIDE, SIDE)], hint_channels=1, detect=detect)
    examples = Selection(pairs, tuple(range(len(dataset))))
    settings = TrainSettings(batch_size=BATCH, workers=workers)
    return read_batches(examples, range(SHARDS * EACH // BATCH), settings)


def whole_shards(spec: str, workers: int) -> Iterable[object]:
    """As webdataset's users read them, shuffled within a buffer."""
    import webdataset

    def decode(sample: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray, str]:
        image, hint = read_image(sample["jpg"]), read_grey(sample["hint.png"])
        return image, hint, sample["txt"].decode()

    source = spec.replace("http", "pipe:curl -s http")
    data = webdataset.WebDataset(source, shardshuffle=SHARDS).shuffle(100).map(decode)
    return DataLoader(data.batched(BATCH), batch_size=None, num_workers=workers)


def speed(read: Callable[[str, int], Iterable[object]], spec: str, workers: int) -> float:
    """Examples a second of an epoch, with the start of the workers."""
    begin = time.perf_counter()
    count = sum(1 for _ in read(spec, workers))
    assert count >= SHARDS * EACH // BATCH
    return SHARDS * EACH / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before each answer")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 8])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = f"{place}/cache"
        folder = Path(place) / "shards"
        folder.mkdir()
        write_shards(folder)
        ours_end, its_end = multiprocessing.Pipe()
        server = multiprocessing.Process(target=run_server, args=(folder, args.latency, its_end))
        server.start()
        braces = f"/{{0..{SHARDS - 1}}}.tar"
        there, here = ours_end.recv() + braces, str(folder) + braces
        begin = time.perf_counter()
        open_dataset(there)
        print(f"headers read once in {time.perf_counter() - begin:.2f} s; examples a second:")
        ways = {"local": (ours, here), "ranges": (ours, there)}
        if find_spec("webdataset"):
            ways["webdataset"] = (whole_shards, there)
        for workers in args.workers:
            told = [f"{name} {speed(*way, workers):.0f}" for name, way in ways.items()]
            print(f"{workers} workers: {', '.join(told)}")
        ours_end.send("end")
        server.join()


if __name__ == "__main__":
    main()
