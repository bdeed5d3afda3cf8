"""Runs on a Ray cluster: an actor is a :class:`~onechange.evidence.spread.Hand`, and keeps the prefixes it computed.

Ray (Moritz et al., 2018) starts processes on other machines, moves bytes to them and says when one is lost. The
driver alone reads and writes the store; nobody needs a disk that all can see.
"""

from __future__ import annotations

import math
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from ..data.messages import messages_of
from ..data.tokens import tokens_of
from ..experiment.experiment import Experiment
from ..support import package
from ..support.errors import UsageError
from ..support.progress import tell
from ..training.device import choose_device, choose_precision
from ..training.memory import memory_of
from ..training.store import PrefixStore
from .parcel import Item, deliver
from .spread import Hand, one_line, start

ANSWER = 5.0  # seconds for the head of a cluster to answer
UP = 180.0  # seconds for workers to come up: some read PyTorch from a slow disk


@dataclass(frozen=True)
class Need:
    """What a worker is given: processors, bytes of memory, and of a GPU's memory where it computes on one."""

    processors: int
    memory: float
    gpu_memory: float = 0.0

    def __str__(self) -> str:
        gpu = f" and {self.gpu_memory / 1e9:.1f} GB of a GPU" if self.gpu_memory else ""
        return f"{self.processors} processor{'s' * (self.processors > 1)}, {self.memory / 1e9:.1f} GB of memory{gpu}"

    def fraction(self, gpu: float) -> float:
        """The part of a GPU of so many bytes: one over as many workers as find room on it; 0 without a GPU.

        Raises:
            UsageError: if not even one does.
        """
        if not self.gpu_memory:
            return 0.0
        if self.gpu_memory > gpu:
            raise UsageError(f"a run needs {self}, and the cluster's GPUs have {gpu / 1e9:.1f} GB")
        return math.floor(1e4 / math.floor(gpu / self.gpu_memory)) / 1e4  # Ray counts ten-thousandths

    def room(self, nodes: Sequence[dict[str, Any]], fraction: float) -> int:
        """How many workers find room on nodes, as Ray lists them."""

        def on(there: dict[str, float]) -> int:
            per_gpu = math.floor(1 / fraction + 1e-3) if fraction else 0
            room = [there.get("CPU", 0) // self.processors, there.get("memory", 0) // self.memory]
            return int(min([*room, *[int(there.get("GPU", 0)) * per_gpu] * (fraction > 0)]))

        return sum(on(node["Resources"]) for node in nodes if node["Alive"])


class Worker:
    """Lives on a node of the cluster; does orders one after the other."""

    def __init__(self, threads: int, prefixes: PrefixStore) -> None:
        start(threads, prefixes)

    def hello(self, items: Sequence[Item]) -> tuple[str, str, list[str]]:
        """Its machine, its version of this package, and which files its cache lacks."""
        return platform.node(), package.__version__, [item.sha256 for item in items if not item.is_here]

    def receive(self, items: Sequence[Item], sent: dict[str, list[Any]]) -> Exception | None:
        """Take files from Ray into this machine's cache; what went wrong, as a value."""
        import ray

        try:
            deliver(items, lambda item: memoryview(ray.get(sent[item.sha256][0])))
        except (UsageError, OSError) as error:
            return error
        return None

    def do(self, work: Callable, order: Any) -> Any:
        return work(order)


class Actor(Executor):
    """A worker as an executor."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        return self.handle.do.remote(fn, *args, **kwargs).future()


class Cluster:
    """A Ray cluster that this process has joined.

    Attributes:
        address: as it was given.
        device: where its workers compute: ``cuda`` or ``cpu``.
    """

    def __init__(self, address: str, device: str) -> None:
        import ray

        self.ray, self.address = ray, address
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        if device.startswith("cuda") and not has_gpu:
            raise UsageError(f"device {device!r} is not in the cluster at {address}: it has no GPU")
        self.device = ("cuda" if has_gpu else "cpu") if device == "auto" else device
        self.usual, self.gpu = choose_precision("auto", torch.device("cpu")), 0.0
        if self.device.startswith("cuda"):
            self.usual, self.gpu = ray.get(ray.remote(num_gpus=0.01)(about_gpu).remote(), timeout=UP)
        self.sent: dict[str, list[Any]] = {}
        self.alive: list[Any] = []

    def precision(self, e: Experiment) -> str:
        """The number format of an experiment on the workers."""
        return self.usual if e.precision == "auto" else choose_precision(e.precision, torch.device(self.device))

    def memory(self, e: Experiment, seeds: int, checkpointing: bool, limit: float) -> float:
        """Bytes that a worker needs for some seeds of an experiment, trained as one."""
        e = e.resolved()
        tokens, _ = tokens_of(e, messages_of(e))
        shape = sum(len(split) for split in tokens.values()), max(split.ids.size(1) for split in tokens.values())
        one = memory_of(e.but(precision=self.precision(e)), shape, torch.device(self.device), checkpointing, limit)
        return one.total + (seeds - 1) * (one.optimizer + one.backward)

    def need(self, memory: float, small: bool) -> Need:
        """What a worker is given for runs of so many bytes; a ``small`` model is done by one processor."""
        if self.device.startswith("cuda"):
            return Need(1, memory, memory)
        smallest = min((int(node["Resources"].get("CPU", 0)) for node in self.nodes()), default=1)
        return Need(1 if small else max(1, smallest), memory)

    def nodes(self) -> list[dict[str, Any]]:
        """The machines that are there and compute, as Ray lists them."""
        return [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    @contextmanager
    def hands(self, most: int, need: Need, items: Sequence[Item], prefixes: PrefixStore) -> Iterator[list[Hand]]:
        """Workers, the files in their caches.

        Args:
            most: how many at most.
            need: what each is given.
            items: files that they have to have.
            prefixes: what each keeps of prefixes, in its memory and on its disk.

        Raises:
            UsageError: if the cluster has not what one needs, none comes up, or one has another version.
        """
        fraction = need.fraction(self.gpu)
        room = need.room(self.nodes(), fraction)
        if room == 0:
            raise UsageError(f"no node of the cluster at {self.address} has what a run needs: {need}")
        options = {"num_cpus": need.processors, "memory": math.ceil(need.memory), "num_gpus": fraction}
        kind = self.ray.remote(**options, scheduling_strategy="SPREAD")(Worker)

        def hire(n: int, patience: float = UP) -> list[Hand]:
            handles = [kind.remote(need.processors, prefixes) for _ in range(n)]
            self.alive += handles
            return [
                Hand(Actor(handle), partial(replaced, handle, host))
                for handle, host in self._ready(handles, items, patience)
            ]

        def replaced(handle: Any, host: str, error: Exception, task: str) -> Hand | None:
            lost = isinstance(error, self.ray.exceptions.RayError)
            if isinstance(error, self.ray.exceptions.RayTaskError) or not (lost or isinstance(error, OSError)):
                raise error  # a mistake in the words or in the code: no other worker would do better
            self._dismiss(handle)
            heirs = hire(1, UP / 3) if lost and need.room(self.nodes(), fraction) > len(self.alive) else []
            why = "was lost" if lost else f"cannot go on ({one_line(error)})"
            who = "another in its place" if heirs else "the others"
            tell(f"onechange: a worker on {host} {why}: {task} is done again by {who}")
            return heirs[0] if heirs else None

        try:
            hands = hire(min(room, most))
            if not hands:
                raise UsageError(f"no worker of the cluster at {self.address} came up in {UP:.0f} s: is it busy?")
            yield hands
        finally:
            for handle in [*self.alive]:
                self._dismiss(handle)

    def _dismiss(self, handle: Any) -> None:
        self.alive.remove(handle)
        self.ray.kill(handle)

    def _ready(self, handles: Sequence[Any], items: Sequence[Item], patience: float) -> Iterator[tuple[Any, str]]:
        """Those that came up and have what they need, with their machines' names.

        Raises:
            UsageError: if one cannot start, or has another version of the package.
        """
        greetings = {handle.hello.remote(items): handle for handle in handles}
        said, _ = self.ray.wait([*greetings], num_returns=len(greetings), timeout=patience)
        for greeting, handle in greetings.items():
            if greeting not in said:
                self._dismiss(handle)
                continue
            try:
                host, version, lacks = self.ray.get(greeting)
            except self.ray.exceptions.RayError as error:
                raise UsageError(
                    f"a worker of the cluster cannot start: {str(error).strip().splitlines()[-1]}"
                ) from None
            if version != package.__version__:
                raise UsageError(f"the worker on {host} has onechange {version}, and this is {package.__version__}")
            failed = self.ray.get(handle.receive.remote(items, self._sent(items, lacks))) if lacks else None
            if failed is not None:
                tell(f"onechange: the worker on {host} cannot have its files ({one_line(failed)}) and is left out")
                self._dismiss(handle)
                continue
            yield handle, host

    def _sent(self, items: Sequence[Item], lacks: Sequence[str]) -> dict[str, list[Any]]:
        """Files in Ray's object store by their hash; in lists, so that Ray moves only those that are fetched."""
        for item in items:
            if item.sha256 in lacks and item.sha256 not in self.sent:
                assert item.source is not None
                self.sent[item.sha256] = [self.ray.put(np.fromfile(item.source, np.uint8))]
        return {digest: self.sent[digest] for digest in lacks}


def about_gpu() -> tuple[str, float]:
    """On a machine with a GPU: what a precision of ``auto`` is there, and the GPU's bytes."""
    place = choose_device("cuda")
    return choose_precision("auto", place), float(torch.cuda.get_device_properties(place).total_memory)


@contextmanager
def joined(address: str, device: str = "auto") -> Iterator[Cluster]:
    """A cluster, for as long as the context lasts.

    Args:
        address: of its head, as ``ray start`` prints it; ``auto`` for one that runs here, or else one of this machine.
        device: where its workers are to compute.

    Raises:
        UsageError: if Ray is not installed, nobody answers, or it is another Ray.
    """
    if find_spec("ray") is None:
        raise UsageError("a cluster needs Ray: pip install 'onechange[cluster]' brings it")
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address != "auto":
        answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # else it asks who is no Ray for a quarter of an hour
    import ray

    own = not ray.is_initialized()
    try:
        if own:
            _join(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"the cluster at {address} cannot be joined: {one_line(error)}") from None
    try:
        yield Cluster(address, device)
    finally:
        if own:
            ray.shutdown()


def _join(address: str) -> None:
    import ray
    from ray._private.utils import read_ray_address

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "auto":
        left = read_ray_address()  # by a cluster that runs here, or ran
        try:
            answers(left or "")
        except UsageError:
            ray.init("local", include_dashboard=False, **quiet)
            return
        address = left
    ray.init(address, **quiet)


def answers(address: str) -> None:
    """Raise :class:`UsageError` unless somebody listens at an address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"cluster {address!r} is neither auto nor an address such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"nobody answers at {address} ({one_line(error)}): ray start --head starts a cluster"
        ) from None
