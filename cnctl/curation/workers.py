"""Processes on this machine that make shards; one that is killed, or hangs, is replaced.

Each has its own pipe, so that a process which is killed holds no lock that others wait for,
and writes to shared memory which rows it is working on since when, so that what kills it is known.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cnctl.curation.reasons import Reason
from cnctl.curation.shard import ShardReport
from cnctl.curation.tools import NO_ROWS
from cnctl.curation.work import Workplace, load_tools
from cnctl.errors import CnctlError, DeviceError
from cnctl.system.chatter import hush, is_hushed
from cnctl.system.children import follow_parent
from cnctl.system.cores import cores

TICK = 0.5
"""Seconds between two looks at how far the work is."""
KILLS = 3
"""So many workers that are killed, or hang, at one row make it a row that is left out."""
FAILED_STARTS = 3
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": f"{64 << 20}",
    "MALLOC_TRIM_THRESHOLD_": f"{256 << 20}",
    "PILLOW_BLOCKS_MAX": "8",
}
"""For glibc and Pillow: to ask the system again for the pages of each image takes as long as Canny.

Blocks of up to 64 MiB are kept, and up to 256 MiB of free memory.
"""
KILLS_BETWEEN = 10
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class Crew:
    """devices: of each worker, "cpu" or "cuda:0". secrets: see `read_row`.

    image_timeout: seconds for one image, after which a worker hangs; 0 for no limit.
    """

    devices: Sequence[str]
    commercial: bool | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    image_timeout: float = 0


@dataclass
class _Worker:
    device: str
    process: Any
    pipe: Connection
    position: Any
    is_ready: bool = False
    hangs: bool = False
    shard: int | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """The first and the last row in work."""
        return self.position[0], self.position[1]

    def took_longer(self, seconds: float) -> bool:
        """Whether it has worked on its rows for longer than this, for each of them."""
        first, last, since = self.position
        count = last - first + 1
        return (first, last) != NO_ROWS and time.monotonic_ns() - since > seconds * count * 1e9


class Workers:
    """Makes shards in the processes of a crew.

    on_report: is called with each shard that is done; on_rows: now and then, with the first row in
    work of each shard that is.
    """

    def __init__(
        self,
        place: Workplace,
        crew: Crew,
        *,
        on_report: Callable[[ShardReport], None],
        on_rows: Callable[[Mapping[int, int]], None] = lambda rows: None,
    ) -> None:
        self._place, self._crew = place, crew
        self._on_report, self._on_rows = on_report, on_rows
        self._waiting: deque[int] = deque()
        self._workers: list[_Worker] = []
        self._kills: Counter[int] = Counter()
        """By row, of workers that had it in work."""
        self._reasons: dict[int, Reason] = {}
        """By row, of the last that had it in work."""
        self._kills_between: Counter[int] = Counter()
        """By shard, of workers that had none of its rows in work."""
        self._failed_starts = 0
        self._claimed: list[int] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
            if worker.shard is not None:
                self._place.clean(worker.shard)

    def make(self, shards: Sequence[int]) -> list[int]:
        """Make these shards, but for those that are returned: other runs have them in work.

        Raises what a worker raises. The processes wait for more shards until the block ends.
        """
        self._waiting.extend(shards)
        self._claimed = []
        for device in self._crew.devices[len(self._workers) : len(shards)]:
            self._workers.append(self._start(device))
        while self._waiting or any(worker.shard is not None for worker in self._workers):
            self._step()
        return self._claimed

    def _step(self) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.shard is None and self._waiting:
                self._give(worker, self._waiting.popleft())
        self._end_hanging()
        watched = [thing for w in self._workers for thing in (w.pipe, w.process.sentinel)]
        ready = wait(watched, timeout=TICK)
        for worker in list(self._workers):
            if worker.pipe in ready:
                self._receive(worker)
            elif worker.process.sentinel in ready:
                self._replace(worker)
        self._on_rows(
            {w.shard: w.rows[0] for w in self._workers if w.shard is not None and w.rows != NO_ROWS}
        )

    def _end_hanging(self) -> None:
        """Kill workers that take too long for an image; they are replaced as others are."""
        limit = self._crew.image_timeout
        for worker in self._workers:
            if limit and worker.shard is not None and worker.took_longer(limit):
                worker.hangs = True
                worker.process.kill()

    def _give(self, worker: _Worker, shard: int) -> None:
        first = self._place.plan.first_row(shard)
        rows = range(first, first + self._place.plan.count(shard))
        kills = {row: count for row, count in self._kills.items() if row in rows}
        killers = {row: self._reasons[row] for row, count in kills.items() if count >= KILLS}
        suspects = [row for row, count in kills.items() if count >= KILLS - 1]
        worker.shard = shard
        with suppress(OSError):  # it was killed, which is seen next
            worker.pipe.send((shard, killers, suspects))

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):  # it was killed
            self._replace(worker)
            return
        match message:
            case "ready":
                worker.is_ready, self._failed_starts = True, 0
            case ShardReport():
                worker.shard = None
                self._on_report(message)
            case int():
                worker.shard = None
                self._claimed.append(message)
            case BaseException():
                raise message
            case str():
                raise RuntimeError(f"a worker has failed:\n{message}")

    def _replace(self, worker: _Worker) -> None:
        """Put another worker in the place of one that has ended, and repeat its shard."""
        worker.process.kill()
        worker.process.join()
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == FAILED_STARTS:
                raise DeviceError(
                    f"workers end before they begin (exit code {worker.process.exitcode})",
                    hint="give them more memory, or fewer --workers",
                )
        if worker.shard is not None:
            self._count_kill(worker, worker.shard)
            self._waiting.appendleft(worker.shard)
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start(worker.device)

    def _count_kill(self, worker: _Worker, shard: int) -> None:
        if worker.rows != NO_ROWS:
            first, last = worker.rows
            reason = Reason.TIMED_OUT if worker.hangs else Reason.KILLED
            self._kills.update(range(first, last + 1))
            self._reasons.update(dict.fromkeys(range(first, last + 1), reason))
            return
        self._kills_between[shard] += 1
        if self._kills_between[shard] == KILLS_BETWEEN:
            raise CnctlError(
                f"{KILLS_BETWEEN} workers were killed at shard {shard}, at none of its images",
                hint="give them more memory, or fewer --workers",
            )

    def _start(self, device: str) -> _Worker:
        ours, theirs = _SPAWN.Pipe()
        position = _SPAWN.RawArray("q", (*NO_ROWS, 0))
        crew = replace(self._crew, devices=[device])
        process = _SPAWN.Process(
            target=_work,
            args=(self._place.out, crew, theirs, position, is_hushed()),
            daemon=True,
        )
        with _environment({**KEEP_MEMORY, **os.environ, "OMP_NUM_THREADS": str(self._threads)}):
            process.start()
        theirs.close()
        return _Worker(device, process, ours, position)

    @property
    def _threads(self) -> int:
        return max(1, cores() // len(self._crew.devices))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Start processes with these variables: libraries read them when they are loaded."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _work(out: Path, crew: Crew, pipe: Connection, position: Any, hushed: bool) -> None:
    """What a worker process does until its parent ends it."""
    follow_parent()
    if hushed:
        hush()

    def at(first: int, last: int) -> None:
        position[0], position[1], position[2] = *NO_ROWS, time.monotonic_ns()
        position[0], position[1] = first, last

    try:
        _set_threads()
        tools = load_tools_of(out, crew)
        with Workplace(out, replace(tools, at=at)) as place:
            pipe.send("ready")
            while True:
                shard, killers, suspects = pipe.recv()
                report = place.run(shard, killers=killers, suspects=suspects)
                pipe.send(shard if report is None else report)
    except (EOFError, ConnectionError):  # the parent has ended
        pass
    except CnctlError as error:
        pipe.send(error)
    except BaseException:
        pipe.send(traceback.format_exc())


def load_tools_of(out: Path, crew: Crew) -> Any:
    """The tools for the plan of an output, on the first device of a crew."""
    from cnctl.curation.plan import read_plan

    plan = read_plan(out)
    assert plan is not None
    return load_tools(
        plan.recipe, device=crew.devices[0], commercial=crew.commercial, secrets=crew.secrets
    )


def _set_threads() -> None:
    import cv2

    cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"]))
