# SPDX-License-Identifier: Apache-2.0
"""Delay and sum of plane waves: channel data become an image of complex samples.

RF is demodulated first. For each pixel the echo of every element within the aperture of the f-number is
interpolated linearly and rotated back by the carrier (Perrot 2021, DOI 10.1016/j.ultras.2020.106309); angles
are added coherently. Interpolation weights of all frames are one sparse matrix. Coherence factors (Mallart & Fink
1994, DOI 10.1121/1.410562; generalised: Li & Li 2003, DOI 10.1109/TUFFC.2003.1182117) darken what does not add
up; they change the statistics of speckle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import UsageError
from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

ORDER = 5  # of the Butterworth low-pass after mixing down
PIXELS = 8192  # beamformed at a time: 128 elements of it are 8 MB of delays
DIRECTIVITY = 0.71  # -3 dB of an element's response bounds the aperture: Perrot 2021, section 2.4
F_NUMBER = 1.5  # where the width of the elements is not known
C_M_S = 1540.0
LOW = 2  # spatial frequencies around zero that count as coherent, Li & Li's M0


@dataclass(frozen=True)
class Array1D:
    """A linear array and how its echoes were sampled; lengths in metres, times in seconds."""

    x: Array  # (element,)
    fs: float
    fc: float
    c: float
    t0: float = 0.0  # time of the first sample
    angles: tuple[float, ...] = (0.0,)
    origin_first: bool = False  # t = 0 when the first element fires, not when the wave passes the centre
    width: float = 0.0
    bandwidth: float = 0.0  # relative, 0: unknown
    demodulation: float | None = None  # of complex samples; None: RF

    @classmethod
    def of(cls, acquisition: Mapping[str, Any], elements: int) -> Array1D:
        """Read the neutral vocabulary.

        Raises
        ------
        UsageError
            Sampling or carrier frequency, or the pitch, is not known.
        """
        known = {k: v for k, v in acquisition.items() if v is not None}
        if "fs_hz" not in known or "fc_hz" not in known or not ("element_x_mm" in known or "pitch_mm" in known):
            raise UsageError("sampling rate, carrier and pitch are needed to beamform; the file does not say them")
        if "element_x_mm" in known:
            x = np.asarray(known["element_x_mm"], float) * 1e-3
        else:
            x = (np.arange(elements) - (elements - 1) / 2) * float(known["pitch_mm"]) * 1e-3
        if len(x) != elements:
            raise UsageError(f"the file places {len(x)} elements and holds echoes of {elements}")
        return cls(
            x,
            float(known["fs_hz"]),
            float(known["fc_hz"]),
            float(known.get("c_m_s", C_M_S)),
            float(known.get("t0_s", 0.0)),
            tuple(float(a) for a in known.get("angles_rad", (0.0,))),
            known.get("wave_origin") == "first",
            float(known.get("width_mm", 0.0)) * 1e-3,
            float(known.get("bandwidth", 0.0)),
            known.get("demodulation_hz"),
        )

    def f_number(self) -> float:
        """Return the f-number at which the outermost element still listens at -3 dB."""
        if not self.width:
            return F_NUMBER
        shortest = self.c / (self.fc * (1 + self.bandwidth / 2))
        angle = np.linspace(0.01, np.pi / 2, 2000)
        response = np.cos(angle) * np.sinc(self.width / shortest * np.sin(angle))
        return float(1 / (2 * np.tan(angle[np.argmax(response < DIRECTIVITY)])))


def demodulate(rf: Array, array: Array1D) -> Array:
    """Return RF ``(time, ...)`` mixed down by the carrier and low-passed: complex64 at the same rate."""
    from scipy.signal import butter, filtfilt

    relative = array.fc / array.fs
    cut = array.bandwidth * relative if array.bandwidth else min(2 * relative, 0.5)
    if cut >= 1:
        raise UsageError("the bandwidth is wider than the sampling rate carries")
    if len(rf) < 4 * (ORDER + 1):
        raise UsageError(f"{len(rf)} samples in time are too few to demodulate")
    times = np.arange(len(rf)) / array.fs + array.t0
    carrier = np.exp(-2j * np.pi * array.fc * times).reshape(-1, *[1] * (rf.ndim - 1))
    b, a = butter(ORDER, cut)
    out = np.empty(rf.shape, np.complex64)
    for k in range(rf.shape[-1]):
        out[..., k] = 2 * filtfilt(b, a, rf[..., k] * carrier[..., 0], axis=0)
    return out


def image(iq: Array, array: Array1D, grid: tuple[Array, Array], f_number: float = 0.0, weight: str = "none") -> Array:
    """Return the image ``(z, x, frame)`` of complex channel data ``(time, element, wave and frame)``.

    Parameters
    ----------
    iq : complex64
        Waves of one frame lie beside each other on the last axis.
    grid : (z, x)
        Pixel centres in metres.
    f_number : float
        0 takes the array's own.
    weight : {"none", "cf", "gcf"}
        Coherence factor of each angle's aperture.
    """
    waves = len(array.angles)
    samples, elements, shots = iq.shape
    frames = shots // waves
    z, x = (g.ravel() for g in np.meshgrid(*grid, indexing="ij"))
    out = np.zeros((z.size, frames), np.complex64)
    f_number = f_number or array.f_number()
    for wave, angle in enumerate(array.angles):
        flat = np.ascontiguousarray(iq[:, :, wave::waves]).reshape(-1, frames)
        for part in _parts(z.size):
            found = _weights(array, (z[part], x[part]), angle, f_number, samples)
            out[part] += _sum(found, flat, elements) if weight == "none" else _coherent(found, flat, elements, weight)
    return (out / waves).reshape(len(grid[0]), len(grid[1]), frames)


def _parts(count: int) -> Iterator[slice]:
    for a in range(0, count, PIXELS):
        yield slice(a, min(a + PIXELS, count))


def _weights(
    array: Array1D, pixels: tuple[Array, Array], angle: float, f_number: float, samples: int
) -> tuple[Array, Array, Array, Array]:
    """Return which (pixel, element) pairs count, their sample index, the fraction beyond it and the rotation."""
    z, x = pixels[0][:, None], pixels[1][:, None]
    reach = array.x[-1] - array.x[0]
    late = abs(np.sin(angle)) * reach / 2 if array.origin_first else 0.0
    across = x - array.x
    delay = (z * np.cos(angle) + x * np.sin(angle) + late + np.sqrt(across**2 + z**2)) / array.c
    place = (delay - array.t0) * array.fs
    inside = (2 * f_number * np.abs(across) <= z) & (place >= 0) & (place < samples - 1)
    place, delay = place[inside], delay[inside]
    index = place.astype(np.int32)
    carrier = array.fc if array.demodulation is None else array.demodulation
    cycles = carrier * delay
    phase = (2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32)
    return inside, index, (place - index).astype(np.float32), np.exp(1j * phase)


def _sum(found: tuple[Array, Array, Array, Array], flat: Array, elements: int) -> Array:
    """Return the plain sum over the aperture, for all frames at once."""
    from scipy.sparse import csr_matrix

    inside, index, fraction, rotation = found
    columns = np.empty((len(index), 2), np.int32)
    columns[:, 0] = index * elements + np.nonzero(inside)[1]
    columns[:, 1] = columns[:, 0] + elements
    values = np.stack([(1 - fraction) * rotation, fraction * rotation], -1)
    rows = np.concatenate([[0], 2 * np.cumsum(inside.sum(1))])
    matrix = csr_matrix((values.ravel(), columns.ravel(), rows), shape=(len(inside), len(flat)))
    return np.asarray(matrix @ flat)


def _coherent(found: tuple[Array, Array, Array, Array], flat: Array, elements: int, weight: str) -> Array:
    """Return the sum over the aperture times its coherence factor, frame by frame."""
    inside, index, fraction, rotation = found
    column = index * elements + np.nonzero(inside)[1]
    out = np.zeros((len(inside), flat.shape[1]), np.complex64)
    count = np.maximum(inside.sum(1), 1)
    for frame in range(flat.shape[1]):
        signal = np.zeros(inside.shape, np.complex64)
        data = flat[:, frame]
        signal[inside] = ((1 - fraction) * data[column] + fraction * data[column + elements]) * rotation
        total, power = signal.sum(1), np.square(np.abs(signal)).sum(1)
        if weight == "cf":
            coherent = np.square(np.abs(total)) / count
        else:
            spectrum = np.square(np.abs(np.fft.fft(signal, axis=1))) / elements
            low = LOW + 1
            coherent = spectrum[:, :low].sum(1) + spectrum[:, -LOW:].sum(1)
        out[:, frame] = total * np.divide(coherent, power, out=np.zeros_like(power), where=power > 0)
    return out


def grid_of(array: Array1D, samples: int, pixel: float = 0.0) -> tuple[Array, Array]:
    """Return pixel centres (z, x) in metres: the depth the echoes cover under the array, half a wavelength apart."""
    step = pixel or array.c / array.fc / 2
    deepest = array.c * (array.t0 + (samples - 1) / array.fs) / 2
    shallow = max(array.c * array.t0 / 2, step)
    if deepest - shallow < step:
        raise UsageError("the echoes end before the array's face: sampling rate or start time is wrong")
    return np.arange(shallow, deepest, step), np.arange(array.x[0], array.x[-1] + step / 2, step)
