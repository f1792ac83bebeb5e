# SPDX-License-Identifier: Apache-2.0
"""Short-time Fourier transform of a stream: square-root Hann, half overlap, perfect reconstruction.

Frames are transformed in batches of a fixed size that are aligned to the start of the stream, so
that the same frame always goes through the same code path: results do not depend on how the
samples were delivered, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.core.lazy import fft, np

if TYPE_CHECKING:
    from pellucid.core.types import Array

HOP_SECONDS = 0.016  # half of a 32 ms window: Cohen, IEEE TSAP 11(5), 2003 uses the same length at 16 kHz
SHORTEST_HOP = 16


def hop_length(rate_hz: float) -> int:
    """Return the hop in samples nearest above 16 ms whose Fourier transform is fast: 256 at 16 kHz."""
    from scipy.fft import next_fast_len

    return max(SHORTEST_HOP, int(next_fast_len(max(1, round(rate_hz * HOP_SECONDS)), real=True)))


def window(hop: int) -> Array:
    """Return the square root of the periodic Hann window, shape (2 hop,), float32."""
    phase = np.pi * np.arange(2 * hop) / (2 * hop)
    return np.sin(phase).astype(np.float32)


def analyse(samples: Array, hop: int, taper: Array) -> Array:
    """Return spectra, shape (frames, channels, hop + 1), of samples (channels, (frames + 1) hop)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop, axis=1)[:, ::hop]
    spectra: Array = fft.rfft(frames.transpose(1, 0, 2) * taper, axis=-1)
    return spectra


def synthesise(spectra: Array, taper: Array, tail: Array) -> tuple[Array, Array]:
    """Return samples (channels, frames hop) by overlap-add onto ``tail`` (channels, hop), and the new tail."""
    frames, channels, bins = spectra.shape
    hop = bins - 1
    pieces = fft.irfft(spectra, 2 * hop, axis=-1) * taper
    out = pieces[:, :, :hop]
    out[1:] += pieces[:-1, :, hop:]
    out[0] += tail
    return out.transpose(1, 0, 2).reshape(channels, frames * hop), pieces[-1, :, hop:].copy()


def silent_frames(samples: Array, hop: int) -> Array:
    """Return where one half of a frame is digital silence, shape (frames, channels), bool."""
    blocks = samples.reshape(samples.shape[0], -1, hop)
    still = ~blocks.any(axis=-1)
    found: Array = (still[:, :-1] | still[:, 1:]).T
    return found
