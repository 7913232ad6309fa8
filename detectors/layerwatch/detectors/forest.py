"""Isolation Forest (Liu, Ting and Zhou, 2008), fitted by scikit-learn, evaluated here on flattened arrays.

scikit-learn takes 6 ms to score one vector; the same trees as arrays take 50 us. Scores saturate outside of the
range of the training data, so a caller pairs them with an unbounded statistic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Ints


@dataclass(frozen=True, slots=True)
class FlatForest:
    """All trees in one set of arrays; a leaf's `feature` is -1. Higher scores are more anomalous."""

    feature: Ints  # [nodes]
    split: F64  # [nodes] go left where value <= split
    left: Ints  # [nodes]
    right: Ints  # [nodes]
    path: F64  # [nodes] path length of a leaf, with the part that was not grown
    roots: Ints  # [trees]
    normaliser: float  # average path length of a tree's training sample
    depth: int
    threshold: float  # largest score of held-out healthy windows

    def score(self, rows: F64) -> F64:
        """[n] in 0..1 of rows [n, features]; equals `-score_samples` of the fitted forest to 1e-12."""
        n = len(rows)
        rows = rows.astype(np.float32).astype(np.float64)  # scikit-learn compares in float32
        node = np.broadcast_to(self.roots, (n, len(self.roots))).copy()
        sample = np.arange(n)[:, None]
        for _ in range(self.depth):
            feature = self.feature[node]
            # A leaf points at itself, whichever way.
            goes_left = rows[sample, np.maximum(feature, 0)] <= self.split[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        scores: F64 = 2.0 ** (-self.path[node].sum(1) / (len(self.roots) * self.normaliser))
        return scores


def average_path(samples: F64) -> F64:
    """c(n): average path length of an unsuccessful search in a binary search tree of n samples (eq. 1 of the paper)."""
    n = np.asarray(samples, float)
    safe = np.maximum(n, 3)
    length = 2.0 * (np.log(safe - 1) + np.euler_gamma) - 2.0 * (safe - 1) / safe
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, length))
