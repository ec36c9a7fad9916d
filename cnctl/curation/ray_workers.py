"""Shards made on a Ray cluster, whose nodes share the file system of the output.

Each actor looks after one worker process of its node, as `Workers` does on one machine, so that an
image which kills its process is found in the same way. A shard whose node is lost is given to
another actor; it is whole or it is not there, so nothing else is to be done.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnctl.curation.shard import ShardReport
from cnctl.curation.work import Workplace
from cnctl.curation.workers import Crew, Workers
from cnctl.errors import CnctlError, MissingError, one_line

TICK = 1.0
FAILURES = 10
"""So many actors that are lost one after another, with no shard made between, end the run."""
PATIENCE = 5.0
"""Seconds that processes of lost actors have to end."""

ANSWER = 20.0
"""Seconds in which a cluster accepts a connection."""

Result = ShardReport | CnctlError | int | str
"""A report, an error, a shard that another run has in work, or the traceback of a bug."""


@dataclass
class _Actor:
    """pending: what Ray is to give next, until it is there; shard: None while it starts."""

    device: str
    handle: Any
    pending: Any
    shard: int | None = None


class RayWorkers:
    """Makes shards in actors, one for each device of a crew, on the cluster that Ray finds."""

    def __init__(
        self, place: Workplace, crew: Crew, *, on_report: Callable[[ShardReport], None]
    ) -> None:
        self._ray = _connected()
        self._place, self._crew, self._on_report = place, crew, on_report
        self._actors: list[_Actor] = []
        self._waiting: deque[int] = deque()
        self._claimed: list[int] = []
        self._lost = 0

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all actors; their processes end with them."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        end = time.monotonic() + PATIENCE
        for shard in [actor.shard for actor in self._actors if actor.shard is not None]:
            while not self._place.clean(shard) and time.monotonic() < end:
                time.sleep(0.1)

    def make(self, shards: Sequence[int]) -> list[int]:
        """Make these shards, but for those that are returned: other runs have them in work."""
        self._waiting.extend(shards)
        self._claimed = []
        for device in self._crew.devices[len(self._actors) : len(shards)]:
            self._actors.append(self._start(device))
        while self._waiting or any(actor.shard is not None for actor in self._actors):
            self._step()
        return self._claimed

    def _step(self) -> None:
        """Give shards to actors that have started: one may wait for a node for ever."""
        for actor in self._actors:
            if actor.pending is None and self._waiting:
                actor.shard = self._waiting.popleft()
                actor.pending = actor.handle.run.remote(actor.shard)
        busy = {actor.pending: actor for actor in self._actors if actor.pending is not None}
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=TICK)
        for pending in ready:
            self._receive(busy[pending])

    def _receive(self, actor: _Actor) -> None:
        try:
            result = self._ray.get(actor.pending)
        except self._ray.exceptions.RayError as error:  # the actor or its node is lost
            self._replace(actor, error)
            return
        actor.pending, actor.shard = None, None
        if result is not None:
            self._lost = 0
        match result:
            case None:
                pass
            case ShardReport():
                self._on_report(result)
            case int():
                self._claimed.append(result)
            case CnctlError():
                raise result
            case _:
                raise RuntimeError(f"a worker has failed:\n{result}")

    def _replace(self, actor: _Actor, error: Exception) -> None:
        self._lost += 1
        if self._lost == FAILURES:
            reason = one_line(str(error))[:300]
            raise CnctlError(
                f"{FAILURES} actors of Ray were lost one after another: {reason}",
                hint="cnctl must be installed on each node, and the output be in the same place",
            ) from error
        if actor.shard is not None:
            self._waiting.appendleft(actor.shard)
        self._actors[self._actors.index(actor)] = self._start(actor.device)

    def _start(self, device: str) -> _Actor:
        needs = {"num_gpus": 1} if device.startswith("cuda") else {"num_cpus": 1}
        supervisor = self._ray.remote(Supervisor).options(**needs)
        # Ray shows each actor its own GPU alone, which is then the first.
        crew = replace(self._crew, devices=["cuda:0" if "num_gpus" in needs else device])
        handle = supervisor.remote(os.getcwd(), str(self._place.out), crew)
        return _Actor(device, handle, handle.start.remote())


class Supervisor:
    """An actor: looks after one worker process of its node."""

    def __init__(self, folder: str, out: str, crew: Crew) -> None:
        os.chdir(folder)  # paths of inputs are relative to where the run was started
        self._reports: list[ShardReport] = []
        self._open = ExitStack()
        place = self._open.enter_context(Workplace(Path(out), None))
        workers = Workers(place, crew, on_report=self._reports.append)
        self._workers = self._open.enter_context(workers)

    def start(self) -> None:
        """Does nothing: what answers has started."""

    def run(self, shard: int) -> Result:
        """Make a shard."""
        self._reports.clear()
        try:
            claimed = self._workers.make([shard])
        except Exception as error:
            return error if isinstance(error, CnctlError) else traceback.format_exc()
        return shard if claimed else self._reports[0]


def cluster_size(kind: str) -> int:
    """How many GPUs, or cores for another kind of device, the cluster has."""
    resources = _connected().cluster_resources()
    return int(resources.get("GPU" if kind == "cuda" else "CPU", 0))


def _connected() -> Any:
    """Ray, connected to the cluster of RAY_ADDRESS or of this machine, or to a new one here."""
    try:
        import ray
    except ImportError as error:
        raise MissingError(
            "--engine ray needs a package that is not installed", hint="pip install 'cnctl[ray]'"
        ) from error
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        try:
            _check_answers(address)
            ray.init(log_to_driver=False, logging_level="error")
        except (OSError, ValueError) as error:  # ConnectionError; an address of another form
            reason = one_line(str(error)).rstrip(".")
            raise MissingError(
                f"no Ray cluster answers at {address or 'this machine'}: {reason}",
                hint="start it: ray start --head; or unset RAY_ADDRESS for one on this machine",
            ) from error
    return ray


def _check_answers(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray itself takes minutes to say so."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
