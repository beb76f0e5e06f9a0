"""Right answers to the exercises of notebook 14, written in other ways than the notebook's."""

import numpy as np


def resample_by_searchsorted(h, shares, uniforms):
    K = h.shape[1]
    rows = [
        row[np.minimum(np.searchsorted(np.cumsum(share), (u + np.arange(K)) / K, side="right"), K - 1)]
        for row, share, u in zip(h, shares, uniforms)
    ]
    return np.stack(rows)


def resample_with_a_loop(h, shares, uniforms):
    out = np.empty_like(h)
    B, K = h.shape
    for b in range(B):
        k, end = 0, shares[b, 0]
        for i in range(K):
            while (uniforms[b] + i) / K >= end and k < K - 1:
                k += 1
                end += shares[b, k]
            out[b, i] = h[b, k]
    return out


def ledger_by_stretches(again, log_w):
    """Each sequence by itself: cut at its resamplings, the log-mean of each stretch's products, added up."""
    found = []
    for b in range(log_w.shape[1]):
        stretches = np.split(log_w[:, b], np.flatnonzero(again[:, b]))
        sums = [s.sum(axis=0) for s in stretches if len(s)]
        found.append(sum(s.max() + np.log(np.mean(np.exp(s - s.max()))) for s in sums))
    return np.array(found, dtype=log_w.dtype)


def ledger_step_by_step(again, log_w):
    """The estimate grows by a factor at each step: the mean of the new weights under the shares so far."""
    log_share = np.zeros_like(log_w[0]) - np.asarray(np.log(log_w.shape[2]), log_w.dtype)
    equal, total = log_share, 0
    for now, step in zip(again, log_w):
        log_share = np.where(now[:, None] > 0, equal, log_share) + step
        factor = np.logaddexp.reduce(log_share, axis=1)
        log_share, total = log_share - factor[:, None], total + factor
    return total


RIGHT = {
    "14.1": [resample_by_searchsorted, resample_with_a_loop],
    "14.2": [ledger_by_stretches, ledger_step_by_step],
    "14.3": [["iwae", "w"], {" W", "IWAE"}],
}
