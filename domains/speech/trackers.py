# SPDX-License-Identifier: Apache-2.0
"""Noise power trackers: from |Y|^2 of a stream to the noise power in every frame and bin.

A tracker is a pair of functions, ``begin(start)`` and ``follow(power, live, state)``; a state is a
dict of (groups, bins) arrays and is never changed in place. Constants are per hop of 16 ms.
Frames that are not ``live`` (digital silence, file ends) leave the state as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.domains.speech import gain

if TYPE_CHECKING:
    from pellucid.core.types import Array

    State = dict[str, Any]

TINY = 1e-22  # power; keeps divisions finite in float32 for data scaled by 1e-6 to 1e6
SPP_XI = 10**1.5  # fixed a-priori SNR of 15 dB: Gerkmann and Hendriks 2012, section III
SPP_DECAY = 0.9  # the paper's 0.8 loses up to 3 dB on single files
IMCRA_SMOOTH, IMCRA_DECAY, IMCRA_ALPHA = 0.8, 0.72, 0.95  # published values are for 8 ms hops
IMCRA_PARTS, IMCRA_FRAMES = 8, 6  # minimum over 8 sub-windows of 6 frames: .77 s
IMCRA_BMIN, IMCRA_BIAS = 1.66, 1.47  # bias of the minimum and of the average: Cohen 2003, table I
HYBRID_BOUND = 4.0
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


def imcra_begin(start: Array) -> State:
    """Return the state of minima-controlled averaging at a noise power ``start`` (groups, bins)."""
    low = start / np.float32(IMCRA_BIAS)
    smooth = {"rough": low, "low": low, "minima": np.repeat(low[None], IMCRA_PARTS, axis=0)}
    return {"first": smooth, "second": smooth, "bar": low, "kept": np.zeros_like(start), "count": 0}


def imcra_follow(power: Array, live: Array, state: State) -> tuple[Array, State]:
    """Track noise by improved minima-controlled recursive averaging.

    Two rounds of smoothing and minimum search; the second leaves out bins that the first found to
    hold speech (Cohen, IEEE TSAP 11(5), 2003, eq. 14-32; doi:10.1109/TSA.2003.811544). Time constants
    are for hops of 16 ms; parameters and result as in ``spp_follow``.
    """
    out, all_live = np.empty_like(power), live.all(axis=1)
    for t in range(len(power)):
        after = _imcra_step(power[t], state)
        state = after if all_live[t] else {**_merge(live[t], after, state), "count": after["count"]}
        out[t] = np.float32(IMCRA_BIAS) * state["bar"]
    return out, state


def _imcra_step(power: Array, state: State) -> State:
    """Return the state after one frame of power (groups, bins)."""
    turn = state["count"] % IMCRA_FRAMES == IMCRA_FRAMES - 1
    first, least = _minimum(_across(power), state["first"], turn)
    floor = np.float32(IMCRA_BMIN) * np.maximum(least, np.float32(TINY))
    noisy = (power < np.float32(4.6) * floor) & (first["rough"] < np.float32(1.67) * floor)  # gamma0, zeta0
    weight = _across(noisy.astype(np.float32))
    masked = np.where(weight > 0, _across(power * noisy) / np.maximum(weight, np.float32(1e-3)), 0)
    masked = np.where(weight > 0, masked, state["second"]["rough"])  # eq. 26
    second, least = _minimum(masked, state["second"], turn)
    floor = np.float32(IMCRA_BMIN) * np.maximum(least, np.float32(TINY))
    quiet = first["rough"] < np.float32(1.67) * floor
    q = np.where(quiet, np.clip((3 - power / floor) / 2, 0, 1), 0)  # eq. 29, gamma1 = 3
    lam = np.maximum(np.float32(IMCRA_BIAS) * state["bar"], np.float32(TINY))
    gamma = np.minimum(power / lam, np.float32(gain.GAMMA_MAX))
    fresh = np.float32(1 - IMCRA_ALPHA) * np.maximum(gamma - 1, 0)
    xi = np.maximum(np.float32(IMCRA_ALPHA) * state["kept"] / lam + fresh, np.float32(gain.XI_MIN))
    v = np.minimum(gamma * xi / (1 + xi), np.float32(80))
    p = (1 - q) / (1 - q + q * (1 + xi) * np.exp(-v) + np.float32(TINY))
    decay = np.float32(IMCRA_DECAY) + np.float32(1 - IMCRA_DECAY) * p
    bar = decay * state["bar"] + (1 - decay) * power  # eq. 10, 11
    kept = np.square(gain.log_mmse(xi, gamma)) * power
    return {"first": first, "second": second, "bar": bar, "kept": kept, "count": state["count"] + 1}


def _across(values: Array) -> Array:
    """Smooth over three neighbouring bins with weights 1/4, 1/2, 1/4; ends repeat."""
    wide = np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)
    smooth: Array = np.float32(0.25) * (wide[:, :-2] + wide[:, 2:]) + np.float32(0.5) * values
    return smooth


def _minimum(fresh: Array, state: State, turn: bool) -> tuple[State, Array]:
    """Smooth in time and return the minimum over the last ``IMCRA_PARTS`` sub-windows."""
    rough = np.float32(IMCRA_SMOOTH) * state["rough"] + np.float32(1 - IMCRA_SMOOTH) * fresh
    low, minima = np.minimum(state["low"], rough), state["minima"]
    least = np.minimum(low, minima.min(axis=0))
    if turn:
        low, minima = rough, np.concatenate([minima[1:], low[None]])
    return {"rough": rough, "low": low, "minima": minima}, least


def _merge(groups: Array, new: State, old: State) -> State:
    """Return ``new`` for the chosen groups (bool), ``old`` for the others."""
    merged: State = {}
    for name, value in new.items():
        if isinstance(value, dict):
            merged[name] = _merge(groups, value, old[name])
        else:
            merged[name] = np.where(groups[:, None], value, old[name]) if np.ndim(value) else value
    return merged


def begin(name: str, first: Array) -> State:
    """Return the state of tracker ``name`` at a noise power ``first`` (groups, bins)."""
    if name == "hybrid":
        return {"spp": spp_begin(first), "imcra": imcra_begin(first)}
    return spp_begin(first) if name == "spp" else imcra_begin(first)


def restart(name: str, state: State, first: Array, groups: Array) -> State:
    """Return the state with some groups (bool) begun anew at ``first``."""
    return _merge(groups, begin(name, first), state)


def follow(name: str, power: Array, live: Array, state: State) -> tuple[Array, State]:
    """Run tracker ``name`` over a batch: lam (frames, groups, bins) and the new state.

    ``hybrid`` is the presence tracker held below ``HYBRID_BOUND`` times the minima-controlled one.
    """
    if name == "hybrid":
        fast, spp = spp_follow(power, live, state["spp"])
        slow, imcra = imcra_follow(power, live, state["imcra"])
        return np.minimum(fast, np.float32(HYBRID_BOUND) * slow), {"spp": spp, "imcra": imcra}
    return (spp_follow if name == "spp" else imcra_follow)(power, live, state)
