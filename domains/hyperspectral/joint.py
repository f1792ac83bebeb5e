# SPDX-License-Identifier: Apache-2.0
"""Joint collaborative filter: one match for all eigenimages, one shrinkage for the group.

BM3D (Dabov et al., IEEE TIP 16 (2007) 2080, DOI 10.1109/TIP.2007.901238) with vectors for pixels: patches are
matched on the distance summed over all images, each group is rotated to its own principal components, then 2-D
DCT in the patch, Haar across the group. Two stages: hard threshold, then the Wiener filter with the first
estimate as pilot. All images carry white noise of unit variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.core.lazy import np, torch

if TYPE_CHECKING:
    import torch as torch_types

    from pellucid.core.types import Array

    Tensor = torch_types.Tensor

FAR = 3e38  # distance of a candidate that leaves the window or holds no data


@dataclass(frozen=True)
class Knobs:
    """Size of the search and of the groups; lengths in pixels."""

    patch: int = 5
    stride: int = 5
    reach: int = 6  # candidates lie within +- reach
    step: int = 2  # lattice of the candidates
    group: int = 16  # patches in a group, a power of two
    threshold: float = 2.7  # hard threshold of the first stage, noise standard deviations
    chunk: int = 128  # groups transformed at a time

    @property
    def radius(self) -> int:
        """How far one stage sees: from a pixel to the far end of a match of a patch that covers it."""
        return self.patch - 1 + 2 * self.reach

    @property
    def halo(self) -> int:
        """How far both stages see."""
        return 2 * self.radius


@dataclass(frozen=True)
class Frame:
    """Where the window lies: ``start`` absolute, ``shape`` of the whole file, ``core`` the part to be exact."""

    start: tuple[int, int]
    shape: tuple[int, int]
    core: tuple[tuple[int, int], tuple[int, int]]


def denoise(images: Tensor, frame: Frame, knobs: Knobs, valid: Tensor | None = None) -> Tensor:
    """Return the filtered images.

    Parameters
    ----------
    images : tensor (k, line, sample), float32, unit white noise
    frame : Frame
        Reference patches lie on multiples of the stride counted from the file's origin, and at its last line and
        sample; only those that reach the core are computed.
    valid : tensor (line, sample), bool, optional

    Returns
    -------
    tensor (k, line, sample)
        Exact over the core; elsewhere the images themselves where no patch reached.
    """
    first = _stage(images, None, _references(frame, knobs, images, knobs.radius), knobs, valid)
    return _stage(images, first, _references(frame, knobs, images, 0), knobs, valid)


def _references(frame: Frame, knobs: Knobs, images: Tensor, margin: int) -> tuple[Array, Array]:
    """Return local rows and columns of the reference patches that reach core +- margin."""
    axes = []
    for axis in range(2):
        last = frame.shape[axis] - knobs.patch
        grid = np.unique(np.append(np.arange(0, max(last, 0) + 1, knobs.stride), max(last, 0)))
        reach = knobs.patch - 1 + knobs.reach + margin
        low, high = frame.core[axis]
        local = grid[(grid >= low - reach) & (grid < high + reach)] - frame.start[axis]
        inside = (local >= 0) & (local + knobs.patch <= images.shape[1 + axis])
        axes.append(local[inside])
    return axes[0], axes[1]


def _stage(
    images: Tensor, pilot: Tensor | None, grid: tuple[Array, Array], knobs: Knobs, valid: Tensor | None
) -> Tensor:
    k, height, width = images.shape
    if 0 in (len(grid[0]), len(grid[1])):
        return images  # smaller than a patch
    first = max(0, int(grid[0][0]) - knobs.reach)  # matches lie among these lines
    lines = min(height, int(grid[0][-1]) + knobs.patch + knobs.reach) - first
    near = (images if pilot is None else pilot).narrow(1, first, lines)
    match = _match(near, (grid[0] - first, grid[1]), knobs, None if valid is None else valid.narrow(0, first, lines))
    match += first * width  # (reference, group) flat corners
    pixels = images.reshape(k, -1).t().clone(memory_format=torch.contiguous_format)
    guide = None if pilot is None else pilot.reshape(k, -1).t().clone(memory_format=torch.contiguous_format)
    span = torch.arange(knobs.patch, device=images.device)
    inside = (span.unsqueeze(1) * width + span).reshape(-1)
    window = _window(knobs.patch, images)
    total, weight = torch.zeros_like(pixels), pixels.new_zeros((len(pixels), 1))
    for part in match.split(knobs.chunk):
        index = (part.unsqueeze(2) + inside).reshape(-1)
        noisy = pixels.index_select(0, index).view(len(part), knobs.group, -1, k)
        guided = None if guide is None else guide.index_select(0, index).view(noisy.shape)
        estimate, trust = _shrink(noisy, guided, knobs)
        share = trust.view(-1, 1, 1, 1) * window.unsqueeze(1)
        total.index_add_(0, index, (estimate * share).reshape(-1, k))
        weight.index_add_(0, index, share.expand(len(part), knobs.group, -1, 1).reshape(-1, 1))
    covered = weight > 0
    total /= torch.where(covered, weight, torch.ones_like(weight))
    result = torch.where(covered, total, pixels)
    del total, pixels, guide
    return result.t().reshape(k, height, width).clone(memory_format=torch.contiguous_format)


def _match(images: Tensor, grid: tuple[Array, Array], knobs: Knobs, valid: Tensor | None) -> Tensor:
    """Return, for each reference patch, the corners of the nearest patches; itself first."""
    rows, cols = (torch.as_tensor(g, device=images.device) for g in grid)
    _, height, width = images.shape
    shifts = range(-knobs.reach, knobs.reach + 1, knobs.step)
    offsets = [(0, 0)] + [(a, b) for a in shifts for b in shifts if (a, b) != (0, 0)]
    whole = None if valid is None else _whole(valid, knobs.patch)
    distances = [torch.full((len(rows), len(cols)), -1.0, dtype=images.dtype, device=images.device)]
    for a, b in offsets[1:]:
        keep_rows = (rows + a >= 0) & (rows + a + knobs.patch <= height)
        keep_cols = (cols + b >= 0) & (cols + b + knobs.patch <= width)
        squared = _squared_difference(images, a, b)
        summed = _boxes(squared, rows, cols, knobs.patch)
        ok = keep_rows.unsqueeze(1) & keep_cols
        if whole is not None:
            there = whole.index_select(0, (rows + a).clamp(0, height - 1))
            ok &= there.index_select(1, (cols + b).clamp(0, width - 1))
        distances.append(torch.where(ok, summed, FAR))
    near, choice = (
        torch.stack(distances).reshape(len(offsets), -1).t().topk(min(knobs.group, len(offsets)), largest=False)
    )
    choice = torch.where(near >= FAR, 0, choice)  # fewer neighbours than the group: repeat the reference
    if choice.shape[1] < knobs.group:
        choice = torch.nn.functional.pad(choice, (0, knobs.group - choice.shape[1]))
    flat = torch.as_tensor([a * width + b for a, b in offsets], device=images.device)
    corner = (rows.unsqueeze(1) * width + cols).reshape(-1, 1)
    return corner + flat.index_select(0, choice.reshape(-1)).view(choice.shape)


def _squared_difference(images: Tensor, a: int, b: int) -> Tensor:
    """Return sum_k (z(p) - z(p + (a, b)))^2, 0 where p + (a, b) lies outside; summed in a fixed order."""
    _, height, width = images.shape
    out = images.new_zeros((height, width))
    if abs(a) >= height or abs(b) >= width:
        return out
    view = _shifted(out, -a, -b)
    for image in images.unbind():
        difference = _shifted(image, -a, -b) - _shifted(image, a, b)
        view.addcmul_(difference, difference)
    return out


def _shifted(image: Tensor, a: int, b: int) -> Tensor:
    """Return the part that is left where an image has moved by (a, b) out of its own frame."""
    height, width = image.shape
    return image.narrow(0, max(0, a), height - abs(a)).narrow(1, max(0, b), width - abs(b))


def _boxes(values: Tensor, rows: Tensor, cols: Tensor, size: int) -> Tensor:
    """Return sums over size x size boxes whose corners lie at rows x cols."""
    narrow = values.index_select(1, cols)
    for i in range(1, size):
        narrow += values.index_select(1, cols + i)
    boxes = narrow.index_select(0, rows)
    for i in range(1, size):
        boxes += narrow.index_select(0, rows + i)
    return boxes


def _whole(valid: Tensor, size: int) -> Tensor:
    """Return which corners have a patch without holes."""
    holes = torch.nn.functional.pad(valid.logical_not().float(), (0, size - 1, 0, size - 1), value=1.0).view(
        1, 1, -1, valid.shape[1] + size - 1
    )
    return torch.nn.functional.max_pool2d(holes, size, stride=1).view(valid.shape) == 0


def _shrink(noisy: Tensor, pilot: Tensor | None, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """Return the group's estimate (reference, group, pixel, k) and its weight (reference,)."""
    axes = _principal(noisy if pilot is None else pilot)
    spectrum = _transform(noisy, axes, knobs)
    if pilot is None:
        keep = spectrum.abs() > knobs.threshold
        spectrum = spectrum * keep
        trust = 1 / (1 + keep.sum((1, 2, 3)).to(noisy.dtype))
    else:
        power = _transform(pilot, axes, knobs).square_()
        gain = power / (power + 1)
        spectrum = spectrum * gain
        trust = 1 / gain.square().sum((1, 2, 3)).clamp_min(1e-3)
    return _back(spectrum, axes, knobs), trust


def _principal(group: Tensor) -> Tensor:
    """Return the components (reference, k, k) of each group's own scatter."""
    flat = group.reshape(len(group), -1, group.shape[-1])
    return torch.linalg.eigh(flat.transpose(1, 2) @ flat)[1]


def _transform(group: Tensor, axes: Tensor, knobs: Knobs) -> Tensor:
    n, members, size, k = group.shape
    haar, dct = _haar(members, group), _dct(knobs.patch, group)
    rotated = (group.reshape(n, -1, k) @ axes).view(n, members, size * k)
    return dct @ (haar @ rotated).view(n, members, size, k)


def _back(spectrum: Tensor, axes: Tensor, knobs: Knobs) -> Tensor:
    n, members, size, k = spectrum.shape
    haar, dct = _haar(members, spectrum), _dct(knobs.patch, spectrum)
    rotated = haar.t() @ (dct.t() @ spectrum).view(n, members, size * k)
    return (rotated.view(n, -1, k) @ axes.transpose(1, 2)).view(n, members, size, k)


def _haar(size: int, like: Tensor) -> Tensor:
    """Return the orthonormal Haar matrix (size, size)."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        coarse = np.kron(matrix, [1, 1])
        fine = np.kron(np.eye(len(matrix)), [1, -1])
        matrix = np.concatenate((coarse, fine)) / np.sqrt(2)
    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)


def _dct(size: int, like: Tensor) -> Tensor:
    """Return the orthonormal 2-D DCT-II of a size x size patch as a matrix."""
    n = np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (2 * n[None, :] + 1) * n[:, None] / (2 * size))
    matrix[0] /= np.sqrt(2)
    return torch.as_tensor(np.kron(matrix, matrix), dtype=like.dtype, device=like.device)


def _window(size: int, like: Tensor) -> Tensor:
    """Return a Hann-like weight (pixel,) that favours a patch's middle and never vanishes."""
    line = np.hanning(size + 2)[1:-1]
    return torch.as_tensor(np.outer(line, line).reshape(-1), dtype=like.dtype, device=like.device)
