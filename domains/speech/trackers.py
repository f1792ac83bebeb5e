# SPDX-License-Identifier: Apache-2.0
"""Noise power trackers: from |Y|^2 of a stream to the noise power in every frame and bin.

A tracker is a pair of functions, ``begin(start)`` and ``follow(power, live, state)``; a state is a
dict of (groups, bins) arrays and is never changed in place. Constants are per hop of 16 ms.
Frames that are not ``live`` (digital silence, file ends) leave the state as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

    State = dict[str, Any]

TINY = 1e-22  # power; keeps divisions finite in float32 for data scaled by 1e-6 to 1e6
SPP_XI = 10**1.5  # fixed a-priori SNR of 15 dB: Gerkmann and Hendriks 2012, section III
SPP_DECAY = 0.9  # the paper's 0.8 loses up to 3 dB on single files
START_QUANTILE, START_SCALE = 0.15, 2.0  # of |Y|^2 over the first seconds; 2 brings the quantile near the mean
START_LIVE = 8  # frames a start needs at least


def spp_begin(start: Array) -> State:
    """Return the state of the presence tracker at a noise power ``start`` (groups, bins)."""
    return {"lam": start, "mean": np.zeros_like(start)}


def spp_follow(power: Array, live: Array, state: State, backwards: bool = False) -> tuple[Array, State]:
    """Track noise by soft speech presence: unbiased MMSE.

    P = 1/(1 + (1 + xi) exp(-|Y|^2/lam xi/(1 + xi))); lam <- a lam + (1 - a)(P lam + (1 - P)|Y|^2)
    (Gerkmann and Hendriks, IEEE TASLP 20(4), 2012, eq. 18, 22, 23; doi:10.1109/TASL.2011.2180896).

    Parameters
    ----------
    power : array (frames, groups, bins)
    live : bool array (frames, groups)
    state : dict
    backwards : bool
        Run from the last frame to the first.

    Returns
    -------
    lam : array (frames, groups, bins)
    state : dict
    """
    lam, mean = state["lam"], state["mean"]
    slope, scale = np.float32(-SPP_XI / (1 + SPP_XI)), np.float32(1 + SPP_XI)
    out, all_live = np.empty_like(power), live.all(axis=1)
    order = range(len(power) - 1, -1, -1) if backwards else range(len(power))
    for t in order:
        p = np.exp(np.maximum(power[t] / lam * slope, np.float32(-80)))
        p *= scale
        p += 1
        np.divide(1, p, out=p)
        average = np.float32(0.9) * mean + np.float32(0.1) * p
        np.minimum(p, np.float32(0.99), out=p, where=average > np.float32(0.99))  # never locked out
        new = lam - power[t]
        new *= p
        new += power[t]  # P lam + (1 - P)|Y|^2
        new -= lam
        new *= np.float32(1 - SPP_DECAY)
        new += lam
        if not all_live[t]:
            new, average = np.where(live[t, :, None], new, lam), np.where(live[t, :, None], average, mean)
        lam, mean = new, average
        out[t] = lam
    return out, {"lam": lam, "mean": mean}


def start(power: Array, live: Array) -> Array:
    """Return a first noise power (groups, bins) from the first frames; TINY where too few are live.

    A low quantile over the frames is carried back to the first frame by the presence tracker.
    """
    first = np.full(power.shape[1:], TINY, np.float32)
    for g in range(power.shape[1]):
        kept = power[live[:, g], g]
        if len(kept) >= START_LIVE:
            low = np.float32(START_SCALE) * np.quantile(kept, START_QUANTILE, axis=0).astype(np.float32)
            low = np.maximum(low, np.float32(TINY))[None]
            first[g] = spp_follow(kept[:, None], live[live[:, g], g : g + 1], spp_begin(low), backwards=True)[1]["lam"]
    return first


def begin(name: str, first: Array) -> State:
    """Return the state of tracker ``name`` at a noise power ``first`` (groups, bins)."""
    return BEGIN[name](first)


def follow(name: str, power: Array, live: Array, state: State) -> tuple[Array, State]:
    """Run tracker ``name`` over a batch: lam (frames, groups, bins) and the new state."""
    return FOLLOW[name](power, live, state)


def restart(state: State, first: Array, groups: Array) -> State:
    """Return the state with a new noise power for some groups."""
    return {**state, "lam": np.where(groups[:, None], first, state["lam"])}


BEGIN = {"spp": spp_begin}
FOLLOW = {"spp": spp_follow}
