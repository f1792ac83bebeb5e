# SPDX-License-Identifier: Apache-2.0
"""Noise power trackers: from |Y|^2 of a stream to the noise power in every frame and bin.

A state is a dict of float32 arrays whose last two axes are (groups, bins); it is never changed in
place. Constants are per hop of 16 ms. Frames that are not ``live`` (digital silence, ends of the
file) are left out: the level stands still meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import ndimage, np
from pellucid.domains.speech import gain

if TYPE_CHECKING:
    from pellucid.core.types import Array

State = dict[str, "Array"]

TINY = 1e-22  # power; keeps divisions finite in float32 for data scaled by 1e-6 to 1e6
SPP_XI = 10**1.5  # fixed a-priori SNR of 15 dB: Gerkmann and Hendriks 2012, section III
SPP_DECAY = 0.93  # the paper's 0.8 loses up to 3 dB on single files
IMCRA_SMOOTH, IMCRA_DECAY, IMCRA_ALPHA = 0.8, 0.72, 0.95  # published values are for hops of 8 ms
IMCRA_WINDOW = 48  # frames the minimum is taken over: .77 s
IMCRA_BMIN, IMCRA_BIAS = 1.66, 1.47  # bias of the minimum and of the average: Cohen 2003, table I
GAMMA0, GAMMA1, ZETA0 = 4.6, 3.0, 1.67  # the same table
HYBRID_BOUND = 1.6  # chosen on tune recordings cut so that they begin in mid-speech
OVERESTIMATE = 1.2  # of what a tracker says, for the gain: less residual noise, chosen on tune recordings
START_QUANTILE = 0.15  # of |Y|^2 over the first seconds: 0.16 of the mean of steady noise
START_FIRST, START_BOUND = 5, 8.0  # mean of so many first frames, at most so many times the quantile
START_LIVE = 8  # frames a start needs at least


def start(power: Array, live: Array) -> Array:
    """Return a first noise power (groups, bins) from the first seconds; TINY where too few are live.

    Recordings mostly begin before the voice does: the mean of the first frames, unless a low quantile
    over the whole stretch says that they hold speech.
    """
    first = np.full(power.shape[1:], TINY, np.float32)
    for g in range(power.shape[1]):
        kept = power[live[:, g], g]
        if len(kept) >= START_LIVE:
            low = START_BOUND * np.quantile(kept, START_QUANTILE, axis=0)
            first[g] = np.maximum(np.minimum(kept[:START_FIRST].mean(axis=0), low), TINY)
    return first


def begin(name: str, first: Array) -> State:
    """Return the state of tracker ``name`` (spp, imcra, hybrid) at a noise power ``first`` (groups, bins)."""
    low = first / np.float32(IMCRA_BIAS)
    history = np.repeat(low[None], IMCRA_WINDOW - 1, axis=0)
    spp = {"lam": first, "mean": np.zeros_like(first)}
    imcra = {"bar": low, "kept": np.zeros_like(first), "first": history, "second": history}
    return (spp if name != "imcra" else {}) | (imcra if name != "spp" else {})


def restart(name: str, state: State, first: Array, groups: Array) -> State:
    """Return the state with some groups (bool) begun anew at ``first``."""
    fresh = begin(name, first)
    return {key: np.where(groups[:, None], fresh[key], state[key]) for key in state}


def follow(name: str, power: Array, live: Array, state: State) -> tuple[Array, State]:
    """Track noise over a batch.

    Parameters
    ----------
    name : {"spp", "imcra", "hybrid"}
        ``hybrid`` is the presence tracker held below ``HYBRID_BOUND`` times the minima-controlled one.
    power : array (frames, groups, bins)
    live : bool array (frames, groups)
    state : dict

    Returns
    -------
    lam : array (frames, groups, bins)
    state : dict
    """
    if live.all():
        return _follow(name, power, state)
    lam, parts = np.empty_like(power), []
    for g in range(power.shape[1]):
        own, kept = {key: value[..., g : g + 1, :] for key, value in state.items()}, live[:, g]
        found = _level(name, own)[None]  # before the first live frame
        if kept.any():
            followed, own = _follow(name, np.ascontiguousarray(power[kept, g : g + 1]), own)
            found = np.concatenate([found, followed])
        lam[:, g : g + 1] = found[np.cumsum(kept)]
        parts.append(own)
    return lam, {key: np.concatenate([part[key] for part in parts], axis=-2) for key in state}


def _follow(name: str, power: Array, state: State) -> tuple[Array, State]:
    """Run a tracker over frames that are all live."""
    if name != "hybrid":
        return (spp if name == "spp" else imcra)(power, state)
    fast, after = spp(power, state)
    slow, after_too = imcra(power, state)
    return np.minimum(fast, np.float32(HYBRID_BOUND) * slow), after | after_too


def _level(name: str, state: State) -> Array:
    """Return the noise power a state stands at."""
    slow = np.float32(IMCRA_BIAS) * state["bar"] if name != "spp" else None
    if slow is None or name == "imcra":
        return state["lam"] if slow is None else slow
    return np.minimum(state["lam"], np.float32(HYBRID_BOUND) * slow)


def spp(power: Array, state: State) -> tuple[Array, State]:
    """Track noise by soft speech presence: unbiased MMSE.

    P = 1/(1 + (1 + xi) exp(-|Y|^2/lam xi/(1 + xi))); lam <- a lam + (1 - a)(P lam + (1 - P)|Y|^2)
    (Gerkmann and Hendriks, IEEE TASLP 20(4), 2012, eq. 18, 22, 23; doi:10.1109/TASL.2011.2180896).
    """
    lam, mean = state["lam"], state["mean"]
    slope, scale = np.float32(-SPP_XI / (1 + SPP_XI)), np.float32(1 + SPP_XI)
    out = np.empty_like(power)
    for t in range(len(power)):
        p = power[t] / lam
        p *= slope
        np.exp(np.maximum(p, np.float32(-80), out=p), out=p)
        p *= scale
        p += 1
        np.divide(1, p, out=p)
        mean = np.float32(0.9) * mean + np.float32(0.1) * p
        np.minimum(p, np.float32(0.99), out=p, where=mean > np.float32(0.99))  # never locked out
        p -= 1
        step = lam - power[t]
        step *= p  # P lam + (1 - P)|Y|^2 - lam = (P - 1)(lam - |Y|^2)
        step *= np.float32(1 - SPP_DECAY)
        lam = np.add(lam, step, out=out[t])
    return out, {"lam": lam.copy(), "mean": mean}


def imcra(power: Array, state: State) -> tuple[Array, State]:
    """Track noise by improved minima-controlled recursive averaging.

    Two rounds of smoothing and minimum search, the second without the bins in which the first found
    speech, give the probability q of speech absence (Cohen, IEEE TSAP 11(5), 2003, eq. 14-29;
    doi:10.1109/TSA.2003.811544); presence then slows the averaging down (eq. 7-12). The minimum is over
    an exactly sliding window.
    """
    first, floor = _minimum(_across(power), np.ones_like(power), state["first"])
    noisy = (power < np.float32(GAMMA0) * floor) & (first[-len(power) :] < np.float32(ZETA0) * floor)  # eq. 21
    kept = noisy.astype(np.float32)
    weight = _across(kept)
    some = weight > 0
    masked = _across(power * kept) / np.where(some, weight, 1)  # eq. 26
    second, floor = _minimum(masked, some.astype(np.float32), state["second"])
    quiet = first[-len(power) :] < np.float32(ZETA0) * floor
    q = np.clip((np.float32(GAMMA1) - power / floor) / np.float32(GAMMA1 - 1), 0, 1) * quiet  # eq. 29
    out, bar, before = _average(power, q, state["bar"], state["kept"])
    past = IMCRA_WINDOW - 1
    return out, {"bar": bar, "kept": before, "first": first[-past:].copy(), "second": second[-past:].copy()}


def _minimum(fresh: Array, some: Array, history: Array) -> tuple[Array, Array]:
    """Smooth in time where ``some`` is 1; return history and smooth values, and the scaled sliding minimum."""
    rough, weight = history[-1], np.float32(1 - IMCRA_SMOOTH) * some
    smooth = np.concatenate([history, fresh])
    for t, row in enumerate(smooth[len(history) :]):
        row -= rough
        row *= weight[t]
        row += rough
        rough = row
    # the window ends at the frame itself
    least = ndimage.minimum_filter1d(smooth, IMCRA_WINDOW, axis=0, origin=(IMCRA_WINDOW - 1) // 2)
    return smooth, np.float32(IMCRA_BMIN) * np.maximum(least[len(history) :], np.float32(TINY))


def _average(power: Array, q: Array, bar: Array, before: Array) -> tuple[Array, Array, Array]:
    """Return noise power of every frame, and the last average and G^2 |Y|^2 (eq. 7-12)."""
    out, present = np.empty_like(power), 1 - q
    for t in range(len(power)):
        inverse = 1 / np.maximum(np.float32(IMCRA_BIAS) * bar, np.float32(TINY))
        gamma = np.minimum(power[t] * inverse, np.float32(gain.GAMMA_MAX))
        xi = np.maximum(gamma - 1, 0)
        xi *= np.float32(1 - IMCRA_ALPHA)
        inverse *= before
        inverse *= np.float32(IMCRA_ALPHA)
        xi += inverse
        np.maximum(xi, np.float32(gain.XI_MIN), out=xi)
        odds = np.exp(-np.minimum(gamma * xi / (1 + xi), np.float32(80)))
        odds *= 1 + xi
        odds *= q[t]
        p = present[t] / (present[t] + odds + np.float32(TINY))
        p -= 1  # bar <- a bar + (1 - a)|Y|^2 with a = d + (1 - d) p
        bar = bar + np.float32(1 - IMCRA_DECAY) * p * (bar - power[t])
        before = np.square(gain.log_mmse(xi, gamma)) * power[t]
        np.multiply(bar, np.float32(IMCRA_BIAS), out=out[t])
    return out, bar, before


def _across(values: Array) -> Array:
    """Smooth over three neighbouring bins with weights 1/4, 1/2, 1/4; ends repeat."""
    wide = np.concatenate([values[..., :1], values, values[..., -1:]], axis=-1)
    smooth: Array = np.float32(0.25) * (wide[..., :-2] + wide[..., 2:]) + np.float32(0.5) * values
    return smooth
