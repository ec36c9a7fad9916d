"""`cnctl annotate --dataset --shards`: speed against plain loops, scaling, kills, a long list.

    python tests/benchmarks/annotate_scale.py [speed] [scaling] [duplicates] [kills] [list]
        [estimate]
        [--photographs 200] [--rounds 2] [--items 2000] [--kills 5] [--rows 100000] [--workers 2]

speed: canny over photographs of 512 pixels, against a loop over controlnet_aux's detector and
against OpenCV in a pool of processes; the pixels are compared. scaling: a detector that only waits
for 50 ms, with 1 to 16 workers, so that what is measured is the coordination. duplicates:
what is done once all shards of photographs are there, of which most hold some. kills: small items
while workers are killed; the bytes must be those of an undisturbed run. list: start-up and memory
of a long list, and of repeating a run that is finished. estimate: three million images.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cnctl.commands.annotate.curate import curate
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.shared.events import ignore
from cnctl.curation.progress import Progress

CAT = Path(__file__).parents[2] / "examples" / "images" / "cat.jpg"
THRESHOLDS = (100, 200)

PLUGIN = """
import os, time
from cnctl.plugin import Condition

def load(device):
    def detect(image):
        time.sleep(float(os.environ["PAUSE"]))
        return image[..., 0]
    return detect

waiting = Condition(name="waiting", summary="Waits", load_detector=load)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*RUN, []], default=[])
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        install_plugin(Path(folder, "site"))
        for part in asked.parts or RUN:
            print(f"{part}:", flush=True)
            RUN[part](asked)


def install_plugin(site: Path) -> None:
    """A condition that waits for PAUSE seconds, for this process and its children."""
    info = site / "waiting-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "waiting_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cnctl.conditions]\nwaiting = waiting_plugin:waiting\n")
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = f"{site}:{os.environ.get('PYTHONPATH', '')}"


def make(given: str, out: str, cond: str, *, on_event: Any = ignore, **asked: Any) -> float:
    """Make a data set; the seconds that it took."""
    shutil.rmtree(out, ignore_errors=True)
    usual: dict[str, Any] = {"dataset": True, "prompt": "x", "keep_all": True}
    request = AnnotateRequest(conditions=cond, inputs=[given], out=out, **{**usual, **asked})
    return seconds(lambda: curate(request, on_event=on_event))


def seconds(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def both_seconds(do: Callable[[], Any]) -> tuple[float, float]:
    """Of the clock; and of CPU, of this process and its children, which depends less on others."""
    began = os.times()
    took = seconds(do)
    return took, sum(os.times()[:4]) - sum(began[:4])


# --- speed --------------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> list[Path]:
    """Parts of a photograph, JPEG of 512 x 512 pixels."""
    folder.mkdir()
    cat = cv2.resize(cv2.imread(str(CAT)), (1024, 1024))
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for path in paths:
        left, top = rng.integers(0, 512, 2)
        cv2.imwrite(str(path), cat[top : top + 512, left : left + 512])
    return paths


def loop_of_controlnet_aux(paths: list[Path], out: Path) -> None:
    from controlnet_aux import CannyDetector

    out.mkdir(exist_ok=True)
    detector = CannyDetector()
    for path in paths:
        detector(Image.open(path), *THRESHOLDS).save(out / f"{path.stem}.png")
        shutil.copy(path, out)


def one_of_opencv(path: Path) -> None:
    cv2.setNumThreads(1)
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    edges = cv2.Canny(image, *THRESHOLDS)
    cv2.imwrite(f"opencv/{path.stem}.png", edges)
    shutil.copy(path, "opencv")


def pool_of_opencv(paths: list[Path], workers: int) -> None:
    Path("opencv").mkdir(exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(one_of_opencv, paths, chunksize=16)


def speed(asked: argparse.Namespace) -> None:
    paths = photographs(Path("photos").absolute(), asked.photographs)
    loop_of_controlnet_aux(paths[:1], Path("aux"))  # imports torch
    low, high = THRESHOLDS
    options = [f"low_threshold={low}", f"high_threshold={high}"]
    workers = asked.workers
    ways: dict[str, Callable[[], Any]] = {
        "controlnet_aux, a loop": lambda: loop_of_controlnet_aux(paths, Path("aux")),
        f"OpenCV, {workers} processes": lambda: pool_of_opencv(paths, workers),
        f"cnctl, {workers} workers": lambda: make(
            *("photos", "out", "canny"),
            options=options,
            workers=workers,
            shards=100,
            rules=["duplicates=..0"],  # parts of one picture are alike; hashes are computed
        ),
    }
    times = {name: [0.0, 0.0] for name in ways}
    for number in range(asked.rounds):
        for name, way in ways.items():
            found = both_seconds(way)
            times[name] = [*map(min, times[name], found)] if number else [*found]
    (loop, of_loop), (pool, of_pool), (ours, of_ours) = times.values()
    for name, (took, cpu) in times.items():
        print(
            f"  {name}: {took:.2f} s, {asked.photographs / took:.0f} images a second, "
            f"{cpu / asked.photographs * 1000:.1f} ms of CPU each"
        )
    print(f"  {loop / ours:.2f} times the loop, {pool / ours:.2f} times the pool")
    print(
        f"  by CPU alone, on {workers} idle cores: {of_loop * workers / of_ours:.2f} times the "
        f"loop, {of_pool / of_ours:.2f} times the pool"
    )
    print(f"  {same_pixels(paths)} of {len(paths)} hints have the pixels of both")


def same_pixels(paths: list[Path]) -> int:
    same = 0
    for number, hint in enumerate(hints("out")):
        stem = paths[number].stem
        others = [np.asarray(Image.open(f"{d}/{stem}.png").convert("L")) for d in ("aux", "opencv")]
        ours = np.asarray(Image.open(io.BytesIO(hint)).convert("L"))
        same += all(np.array_equal(ours, other) for other in others)
    return same


def hints(out: str) -> list[bytes]:
    found = []
    for path in sorted(Path(out, "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [tar.extractfile(m).read() for m in tar if m.name.endswith(".hint.png")]  # type: ignore[union-attr]
    return found


# --- scaling ------------------------------------------------------------------------------------


def small_items(name: str, count: int) -> None:
    Path(name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(f"{name}/{number:06d}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))


def scaling(asked: argparse.Namespace) -> None:
    os.environ["PAUSE"] = "0.05"
    small_items("waits", 200 * 16)
    rates: dict[int, float] = {}
    for workers in (1, 2, 4, 8, 16):
        count = 200 * workers
        rates[workers] = rate_of(f"waits/{{000000..{count - 1:06d}}}.png", workers)
        share = rates[workers] / rates[1] / workers
        print(f"  {workers} workers: {rates[workers]:.1f} images a second, {share:.2f} of linear")


def rate_of(given: str, workers: int) -> float:
    """Images a second in the second half of a run, so that start-up is not counted."""
    times: list[tuple[float, int]] = []

    def note(event: object) -> None:
        if isinstance(event, Progress) and (not times or event.seen > times[-1][1]):
            times.append((time.perf_counter(), event.seen))

    make(given, "out", "waiting", workers=workers, shards=4, resolution=8, on_event=note)
    (middle, half), (end, whole) = times[len(times) // 2], times[-1]
    return (whole - half) / (end - middle)


# --- duplicates ---------------------------------------------------------------------------------


def duplicates(asked: argparse.Namespace) -> None:
    """One process: others are started for larger sets."""
    if not Path("photos").exists():
        photographs(Path("photos").absolute(), asked.photographs)
    shards: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Progress):
            shards.append(time.perf_counter())

    how: dict[str, Any] = {"workers": 1, "shards": 100, "keep_all": False, "on_event": note}
    make("photos", "out", "canny", rules=["duplicates=..0"], **how)
    took = time.perf_counter() - shards[-1]
    rows = [json.loads(line) for p in Path("out/records").iterdir() for line in p.open()]
    held = {row["row"] // 100 for row in rows if row["reason"] == "duplicate"}
    print(
        f"  {sum(row['reason'] == 'duplicate' for row in rows)} duplicates in {len(held)} of "
        f"{-(-len(rows) // 100)} shards are left out, and the report is written, in {took:.2f} s: "
        f"{len(held) * 100 / took:.0f} images a second"
    )


# --- kills --------------------------------------------------------------------------------------


def kills(asked: argparse.Namespace) -> None:
    os.environ["PAUSE"] = "0"
    small_items("items", asked.items)
    how: dict[str, Any] = {
        "workers": asked.workers,
        "shards": max(20, asked.items // 200),
        "resolution": 8,
        "rules": ["duplicates=off"],
    }
    undisturbed = make("items", "undisturbed", "waiting", **how)
    killed = 0
    step = asked.items // (asked.kills + 1)

    def kill(event: object) -> None:
        nonlocal killed
        if (
            isinstance(event, Progress)
            and killed < asked.kills
            and event.seen > step * (killed + 1)
        ):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            workers = [
                c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()
            ]
            if workers:
                os.kill(int(workers[killed % len(workers)]), signal.SIGKILL)
                killed += 1

    disturbed = make("items", "disturbed", "waiting", on_event=kill, **how)
    same = digest("disturbed") == digest("undisturbed")
    print(
        f"  {asked.items} items, {killed} kills: {disturbed:.1f} s, undisturbed {undisturbed:.1f} s"
    )
    print(f"  all files are the same: {same}")


def digest(out: str) -> str:
    found = hashlib.sha256()
    for path in sorted(Path(out).rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(out)}\n".encode() + path.read_bytes())
    return found.hexdigest()


# --- a long list --------------------------------------------------------------------------------

PLANNING = """
import sys, time
from pathlib import Path
from cnctl.curation.plan import check_rows, read_plan, write_plan
from cnctl.curation.recipe import HintRecipe, Recipe
from cnctl.curation.sources.opening import Inputs, find_rows

def memory():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

out, before, began = Path("planned"), memory(), time.perf_counter()
rows = lambda: find_rows(Inputs(given=[sys.argv[1]]), without=out)
out.mkdir(exist_ok=True)
write_plan(out, Recipe(hints=(HintRecipe(condition="canny"),), per_shard=1000), rows())
planned = time.perf_counter() - began
check_rows(out, rows())
checked = time.perf_counter() - began - planned
print(f"  planned in {planned:.1f} s, compared with the plan in {checked:.1f} s, "
      f"{memory() - before:.0f} MiB above {before:.0f} MiB")
"""


def long_list(asked: argparse.Namespace) -> None:
    for count in (asked.rows // 10, asked.rows):
        Path("long.txt").write_text("\n".join(f"photos/{n:09d}.jpg" for n in range(count)))
        print(f"  {count} rows:", flush=True)
        shutil.rmtree("planned", ignore_errors=True)
        subprocess.run([sys.executable, "-c", PLANNING, "long.txt"], check=True)


# --- three million images -----------------------------------------------------------------------


def estimate(asked: argparse.Namespace) -> None:
    """What it takes at the rates of detectors on one GPU, and where the limits are."""
    images, stored = 3_000_000, 160e3
    for rate in (20, 100):
        for gpus in (8, 64):
            hours = images / (rate * gpus * 0.85) / 3600
            read = rate * gpus * 120e3 / 1e6
            print(
                f"  {rate} images a second on a GPU, {gpus} GPUs, 0.85 of linear: {hours:.1f} h; "
                f"decodes {rate * gpus} a second (5 ms each: {rate * gpus * 0.005:.1f} cores), "
                f"reads {read:.0f} MB/s, writes {rate * gpus * stored / 1e6:.0f} MB/s"
            )
    print(f"  {images * stored / 1e12:.2f} TB in {images // 1000} shards")


RUN = {
    "speed": speed,
    "scaling": scaling,
    "duplicates": duplicates,
    "kills": kills,
    "list": long_list,
    "estimate": estimate,
}

if __name__ == "__main__":
    main()
