# SPDX-License-Identifier: Apache-2.0
"""BM3D: similar patches stacked, filtered together and put back.

Dabov, Foi, Katkovnik and Egiazarian, IEEE TIP 16(8) 2007 (10.1109/TIP.2007.901238); notes on its
parts by Lebrun, IPOL 2012 (10.5201/ipol.2012.l-bm3d). Two stages: hard thresholding gives a basic
estimate, which then steers the matching and an empirical Wiener filter on the noisy data.

Everything is said as large matrix products: the 2-D transform of *every* patch is taken once, groups
are rows gathered from that table, and estimates are added up as coefficients, so that one inverse
transform per patch position is enough (the transform is linear).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pellucid.core.lazy import ndimage, np, torch
from pellucid.core.types import Noise, Plan, Result, Tile, Traits, option

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.core.types import Array

SIDE = 8  # samples, side of a patch; Dabov table I, normal profile
BETA = 2.0  # of the Kaiser window the estimates are added with; the same place
CHUNK = 128  # groups filtered at once: the working set stays in the cache
STRIP = 16  # rows of references matched at once


@dataclass(frozen=True)
class Options:
    """How far to look, how much to remove."""

    step: int = option(4, "samples between reference patches; less is slower and a little better")
    search: int = option(16, "radius of the search in samples; more finds more repeats and is slower")
    group: int = option(16, "patches in a group, a power of two; more suits repeated patterns")
    threshold: float = option(2.7, "hard threshold in units of sigma; more removes more")


def halo(options: Options) -> int:
    """Return the samples that can move a result: in each stage a patch, a search from there, a patch."""
    return 2 * (2 * options.search + 2 * (SIDE - 1) + 2)


TRAITS = Traits(
    name="bm3d",
    line="BM3D: filters similar patches together; the best classical result on pictures.",
    spatial=(2,),
    joint=("channel",),
    needs_sigma=True,
    halo=halo,
    devices=("cpu", "cuda"),
    bytes_per_sample=1200.0,
    equivariant=("scale", "shift"),
    cite=("10.1109/TIP.2007.901238", "10.5201/ipol.2012.l-bm3d"),
    use="photographs and micrographs with repeated structure, white noise of known level",
    avoid="noise that is correlated between neighbours",
)


def run(tile: Tile, noise: Noise | None, plan: Plan, rng: np.random.Generator) -> Result:
    """Estimate twice: by a threshold, then by a Wiener filter steered by the first estimate."""
    assert noise is not None
    options = plan.options or Options()
    planes = torch.as_tensor(np.moveaxis(tile.values.reshape(*tile.values.shape[:2], -1), -1, 0).copy())
    sigma = torch.as_tensor(np.asarray(noise.sigma, np.float32)).expand(len(planes)).contiguous()
    mix = torch.as_tensor(dct(len(planes)))
    planes = torch.tensordot(mix, planes, 1)
    sigma = torch.sqrt(mix.square() @ sigma.square())
    rows = grid(tile.window[0], tile.shape[0], options.step)
    cols = grid(tile.window[1], tile.shape[1], options.step)
    table = spectra(planes)
    where = match(planes[0], rows, cols, options, THIN1)
    basic = collect(table, None, where, sigma, planes.shape[1:], options)
    where = match(basic[0], rows, cols, options, THIN2)
    final = collect(table, spectra(basic), where, sigma, planes.shape[1:], options)
    out = torch.tensordot(mix.T, final, 1)
    return Result(np.moveaxis(out.numpy(), 0, -1).reshape(tile.values.shape))


THIN1 = 2
THIN2 = 2


def dct(n: int):
    """Orthonormal DCT-II; for three channels it is the opponent transform of colours."""
    k, i = np.arange(n)[:, None], np.arange(n)[None]
    out = np.cos(np.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    out[0] /= math.sqrt(2)
    return out.astype(np.float32)


def haar(n: int):
    """Orthonormal Haar."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.concatenate([np.kron(h, [1, 1]), np.kron(np.eye(len(h)), [1, -1])]) / math.sqrt(2)
    return h.astype(np.float32)


def grid(window, length, step):
    first = -(-window.start // step) * step
    at = list(range(first, min(window.stop, length) - SIDE + 1, step))
    last = length - SIDE
    if window.start <= last <= window.stop - SIDE and (not at or at[-1] != last):
        at.append(last)
    return [a - window.start for a in at]


def spectra(planes: Tensor) -> Tensor:
    """2-D transform of every patch: (channel, positions, 64)."""
    base = torch.as_tensor(np.kron(dct(SIDE), dct(SIDE)))
    kernel = base.view(-1, 1, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    out = [
        torch.nn.functional.conv2d(p[None, None].contiguous(memory_format=torch.channels_last), kernel) for p in planes
    ]
    return torch.stack([o.permute(0, 2, 3, 1).reshape(-1, SIDE * SIDE) for o in out])


def runs(at, step):
    if len(at) > 1 and at[-1] - at[-2] != step:
        return [at[:-1], at[-1:]]
    return [at]


def match(image, rows, cols, o, thin):
    h, w = image.shape
    R = o.search
    if thin == 2:
        s = image[:-1] + image[1:]
        s = torch.nn.functional.pad((s[:, :-1] + s[:, 1:])[None, None], (0, 1, 0, 1), mode="replicate")[0, 0]
    else:
        s = image
    pad = R + (R % 2)
    s = torch.nn.functional.pad(s[None, None], (pad, pad + thin, pad, pad + thin), mode="replicate")[0, 0]
    out = torch.empty(len(rows), len(cols), o.group, dtype=torch.int64)
    y = 0
    for ry in runs(rows, o.step):
        for y0 in range(0, len(ry), STRIP):
            part = ry[y0 : y0 + STRIP]
            x = 0
            for rx in runs(cols, o.step):
                out[y : y + len(part), x : x + len(rx)] = nearest(s, pad, part, rx, (h, w), o, thin)
                x += len(rx)
            y += len(part)
    return out.view(-1, o.group)


def nearest(s, pad, ry, rx, size, o, thin):
    R, n = o.search, 2 * o.search + 1
    hh, ww = (ry[-1] - ry[0] + SIDE) // thin, (rx[-1] - rx[0] + SIDE) // thin

    def cut(y, x, rows, cols):
        return s[y + pad : y + pad + rows * thin : thin, x + pad : x + pad + cols * thin : thin][:rows, :cols]

    a = cut(ry[0], rx[0], hh, ww).contiguous()
    D = torch.full((len(ry), len(rx), n, n), math.inf)
    ay, ax = torch.tensor(ry), torch.tensor(rx)
    oy = torch.arange(-R, R + 1)
    for i, dy in enumerate(range(-R, R + 1)):
        ok = [k for k, r in enumerate(ry) if 0 <= r + dy <= size[0] - SIDE]
        if not ok:
            continue
        for ph in range(thin):
            dxs = range(-R + ph, R + 1, thin)
            b = cut(ry[0] + dy, rx[0] + dxs[0], hh, ww + len(dxs) - 1).contiguous()
            d = b.unfold(1, ww, 1).transpose(0, 1) - a
            d.square_()
            d = box(d, 1, len(ry), o.step // thin, SIDE // thin)
            d = box(d, 2, len(rx), o.step // thin, SIDE // thin)
            D[ok[0] : ok[-1] + 1, :, i, ph::thin] = d.permute(1, 2, 0)[ok[0] : ok[-1] + 1]
    for j, x in enumerate(rx):
        lo, hi = max(0, R - x), max(0, x + R - (size[1] - SIDE))
        if lo:
            D[:, j, :, :lo] = math.inf
        if hi:
            D[:, j, :, n - hi :] = math.inf
    D[:, :, R, R] = -1
    k = torch.topk(D.view(len(ry), len(rx), n * n), o.group, dim=-1, largest=False).indices
    pos = (ay[:, None, None] + k // n - R) * (size[1] - SIDE + 1) + ax[None, :, None] + k % n - R
    return pos


def box(d, axis, count, stride, width):
    cut = [slice(None)] * 3
    out = None
    for k in range(width):
        cut[axis] = slice(k, k + (count - 1) * stride + 1, stride)
        v = d[tuple(cut)]
        out = v.clone() if out is None else out.add_(v)
    return out


def collect(table, pilot, where, sigma, size, o):
    c, positions, k = table.shape
    H = torch.as_tensor(haar(o.group))
    acc = torch.zeros_like(table)
    weight = torch.zeros(c, positions)
    for ch in range(c):
        s = sigma[ch]
        for i in range(0, len(where), CHUNK):
            idx = where[i : i + CHUNK].reshape(-1)
            g = H @ table[ch].index_select(0, idx).view(-1, o.group, k)
            if pilot is None:
                keep = g.abs() > o.threshold * s
                wt = 1 / keep.sum((1, 2)).clamp_(min=1).float()
                g *= keep
            else:
                b = (H @ pilot[ch].index_select(0, idx).view(-1, o.group, k)).square_()
                b /= b + s * s
                g *= b
                wt = 1 / b.square_().sum((1, 2))
            g = (H.T @ g) * wt[:, None, None]
            acc[ch].index_add_(0, idx, g.view(-1, k))
            weight[ch].index_add_(0, idx, wt[:, None].expand(-1, o.group).reshape(-1))
    return spread(acc, weight, size)


def spread(acc, weight, size):
    base = torch.as_tensor(np.kron(dct(SIDE), dct(SIDE)))
    kai = np.kaiser(SIDE, BETA)
    kai = torch.as_tensor(np.outer(kai, kai).astype(np.float32))
    c, _, k = acc.shape
    h, w = size[0] - SIDE + 1, size[1] - SIDE + 1
    out, norm = torch.zeros(c, *size), torch.zeros(c, *size)
    for ch in range(c):
        patches = (base.T * kai.view(-1, 1)) @ acc[ch].T
        patches = patches.view(SIDE, SIDE, h, w)
        for y in range(SIDE):
            for x in range(SIDE):
                out[ch, y : y + h, x : x + w] += patches[y, x]
                norm[ch, y : y + h, x : x + w] += kai[y, x] * weight[ch].view(h, w)
    return out / norm
