"""A 5-gram language model: what a language model must beat to have learned more than phrases.

Interpolated Kneser-Ney smoothing (Kneser and Ney, 1995; Chen and Goodman, 1999) over the same tokens
as the GPTs, with one discount an order. Everything is a sorted array of packed n-grams.
"""

from __future__ import annotations

import numpy as np

BITS = 12  # a token of the 4,096; five of them fit an int64


def pack(tokens: np.ndarray, n: int) -> np.ndarray:
    """All n-grams of a sequence ``(N,)`` as integers, ``(N - n + 1,)``; the last token is the lowest bits."""
    windows = np.lib.stride_tricks.sliding_window_view(tokens.astype(np.int64), n)
    return windows @ (1 << (BITS * np.arange(n - 1, -1, -1, dtype=np.int64)))


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where it is not among the sorted ``keys``."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def token_probabilities(train: np.ndarray, valid: np.ndarray, order: int = 5) -> np.ndarray:
    """The model's probability of every token of ``valid`` behind the first ``order - 1``.

    Args:
        train, valid: ``(N,)`` token ids below 4,096.
        order: the longest n-gram.
    """
    p = np.full(len(valid) - order + 1, 1 / (1 << BITS))
    for n in range(1, order + 1):
        grams, counts = np.unique(pack(train, n), return_counts=True)
        if n < order:  # how many different tokens stand before it, rather than how often it is seen
            longer = np.unique(pack(train, n + 1)) & ((1 << (BITS * n)) - 1)
            grams, counts = np.unique(longer, return_counts=True)
        contexts, first, types = np.unique(grams >> BITS, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        ones, twos = (counts == 1).sum(), (counts == 2).sum()
        discount = max(0.1, ones / max(1, ones + 2 * twos))  # at least a little for what was never seen
        wanted = pack(valid, n)[order - n :]
        seen = look_up(grams, counts, wanted)
        total, kinds = (look_up(contexts, values, wanted >> BITS) for values in (totals, types))
        known = np.maximum(total, 1)
        mixed = np.maximum(seen - discount, 0) / known + discount * kinds / known * p
        p = np.where(total > 0, mixed, p)
    return p
