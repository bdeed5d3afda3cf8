"""The one place through which runs reach whatever does them: this process, others here, a cluster, any executor.

The process that calls :func:`spread` decides who does what, and it alone touches the store. A :class:`Hand` does one
task at a time. What a task is, and what comes of it, is not known here; only that tasks with the same ``prefix``
share what the first of them computes.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context
from threading import RLock
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from ..support.errors import UsageError
from ..training.store import PrefixStore

PATIENCE = 5  # workers that may be lost over one task before it is taken for the reason


class Task(Protocol):
    """Something to be done; tasks of one ``prefix`` share what the first computes, those of an empty one nothing."""

    @property
    def prefix(self) -> str: ...


T = TypeVar("T", bound=Task)


def fails(error: Exception, task: str) -> Hand | None:
    raise error


@dataclass(eq=False)
class Hand:
    """Whoever does one task at a time.

    Attributes:
        executor: takes the task, and is any of ``concurrent.futures``.
        replaced: asked after an error, with the task's name, for the hand that takes its place; ``None`` if there is
            none, and it raises what no other hand would do better.
        holds: the prefixes that it has computed.
    """

    executor: Executor
    replaced: Callable[[Exception, str], Hand | None] = fails
    holds: set[str] = field(default_factory=set)


def spread(
    tasks: Sequence[T], hands: Sequence[Hand], begin: Callable[[T, Executor], Future | None]
) -> Iterator[tuple[T, Any]]:
    """Keep every hand busy; each task and its result, as they end.

    Args:
        tasks: what there is to do, in the order in which it is begun where no prefix speaks for another.
        hands: who does it.
        begin: submits a task, just when its turn comes; ``None`` where nothing of it is left to do. A result that is
            an exception is one.
    """
    waiting, idle, everyone = list(tasks), list(hands), list(hands)
    running: dict[Future, tuple[T, Hand]] = {}
    losses: Counter[int] = Counter()
    try:
        while waiting or running:
            while idle and waiting:
                task = waiting.pop(choose(waiting, idle[0], everyone))
                if (future := begin(task, idle[0].executor)) is not None:
                    hand = idle.pop(0)
                    hand.holds.add(task.prefix)
                    running[future] = task, hand
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, hand = running.pop(future)
                try:
                    result = future.result()
                    if isinstance(result, Exception):
                        raise result
                except Exception as error:
                    losses[id(task)] += 1
                    everyone.remove(hand)
                    heir = hand.replaced(error, str(task))
                    if (heir is None and not everyone) or losses[id(task)] == PATIENCE:
                        kept = "what was finished is kept, and the same command goes on"
                        raise UsageError(f"no worker could do {task}: {one_line(error)}; {kept}") from None
                    waiting.insert(0, task)
                    everyone += [heir] if heir else []
                    idle += [heir] if heir else []
                else:
                    idle.append(hand)
                    yield task, result
    finally:
        for future in running:
            future.cancel()


def choose(waiting: Sequence[Task], hand: Hand, everyone: Sequence[Hand]) -> int:
    """Which task is next for a hand: one whose prefix it holds; else one that nobody holds; else the first."""
    others = set().union(*(other.holds for other in everyone if other is not hand)) - {""}
    ranks = [0 if task.prefix and task.prefix in hand.holds else 1 + (task.prefix in others) for task in waiting]
    return ranks.index(min(ranks))


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class Here(Executor):
    """This process: a task is done when it is submitted, and an error is raised there."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def processes(many: int, prefixes: PrefixStore) -> Iterator[list[Hand]]:
    """Processes of this machine, each with its part of the threads and of the prefixes' memory.

    Raises:
        UsageError: if one of them is killed.
    """
    threads, others = max(1, torch.get_num_threads() // many), active_children()
    own = PrefixStore(prefixes.limit / many, prefixes.disk)
    pools = [ProcessPoolExecutor(1, get_context("spawn"), start, (threads, own)) for _ in range(many)]
    try:
        yield [Hand(pool) for pool in pools]
    except BrokenProcessPool:
        raise UsageError(
            f"one of {many} processes was killed, as happens where memory is short: what was finished is kept, "
            "and --workers 1 needs less"
        ) from None
    finally:  # of an error too: nobody waits for the runs of a study that has ended
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for helper in set(active_children()) - set(others):
            helper.terminate()


_here: list[PrefixStore] = []
"""In a worker's process: the prefixes it keeps from task to task."""


def start(threads: int, prefixes: PrefixStore) -> None:
    """Make a process a worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one ends us
    tqdm.set_lock(RLock())  # tqdm's own, between processes, would be left behind by one that is ended
    torch.set_num_threads(threads)
    _here.append(prefixes)


def kept() -> PrefixStore | None:
    """The prefixes of a worker's process; ``None`` where nobody made it one's."""
    return _here[0] if _here else None
