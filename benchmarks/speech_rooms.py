# SPDX-License-Identifier: Apache-2.0
"""Speech in rooms: ``wpe`` beside nara-wpe, one to four microphones.

    python -m benchmarks.speech_rooms [--quick]

Five test clips in each room. Reference: direct sound and the first 50 ms of the response. Measured
responses have one channel; ``shoebox`` is simulated by mirror images (Allen and Berkley, JASA 65(4),
1979) because no measured response with several channels is at hand. Needs pesq and the folder named
by PELLUCID_TEST_DATA (``speech/``).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import fftconvolve, resample_poly

from benchmarks.peers import cpu_time, run_json, save, venv
from benchmarks.speech import DATA, RATE
from pellucid.domains.speech import metrics, wpe

ROOMS = ("webaudio_kitchen", "audiomentations_rir48000", "webaudio_omni_35_10")
CLIPS = 5
EARLY = 0.05  # s after the direct sound that belong to the reference
C = 343.0  # m/s
SIZE, DECAY, GAP = np.array([6.0, 5.0, 3.0]), 0.6, 0.1  # m, s (RT60 by Eyring's formula), m between microphones
FINE = 8  # mirror images are placed on a grid so much finer than the sampling
COLUMNS = "room,microphones,method,n,si_sdr,pesq,worst_change,rtf"

NARA = """
import time
import numpy as np
from nara_wpe.utils import stft, istft
from nara_wpe.wpe import wpe_v8
def dereverberate(y):
    spectra = stft(y, size=512, shift=128).transpose(2, 0, 1)
    clean = wpe_v8(spectra, taps=10, delay=3, iterations=3, statistics_mode="full")
    return istft(clean.transpose(1, 2, 0), size=512, shift=128)[:, : y.shape[1]]
sounds = np.load(job["clips"])
clips = [sounds[k] for k in sorted(sounds.files)]
dereverberate(clips[0][:, :16000])
start = time.process_time()
done = [dereverberate(x) for x in clips]
seconds = time.process_time() - start
np.savez(job["target"], **{f"{i:04d}": np.asarray(x, np.float32) for i, x in enumerate(done)})
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Wet:
    """A recording in a room, (microphones, samples), and what of it should remain at the first microphone."""

    heard: np.ndarray
    early: np.ndarray


def responses(room: str, microphones: int, place: int) -> np.ndarray:
    """Return (microphones, samples): a measured response, or the shoebox's for one place of the talker."""
    if room != "shoebox":
        return np.atleast_2d(soundfile.read(DATA / "rir" / f"{room}.flac")[0])
    draw = np.random.default_rng(place)
    talker = draw.uniform((3.0, 1.0, 1.4), (5.0, 4.0, 1.8))
    return np.stack([mirror_images(talker, np.array([1.2 + GAP * m, 2.3, 1.2])) for m in range(microphones)])


def mirror_images(source: np.ndarray, microphone: np.ndarray) -> np.ndarray:
    """Return the response of an empty box whose walls reflect alike."""
    volume, surface = SIZE.prod(), 2 * (SIZE * np.roll(SIZE, 1)).sum()
    reflection = np.exp(-0.161 * volume / (2 * surface * DECAY))  # sqrt of 1 - absorption
    near, bounces = [], []
    for a in range(3):
        n = np.arange(-(k := int(DECAY * C / 2 / SIZE[a]) + 1), k + 1)
        near.append(np.concatenate([2 * n * SIZE[a] + s * source[a] - microphone[a] for s in (1, -1)]) ** 2)
        bounces.append(np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)]))
    distance = np.sqrt(near[0][:, None, None] + near[1][:, None] + near[2]).ravel()
    count = (bounces[0][:, None, None] + bounces[1][:, None] + bounces[2]).ravel()
    kept = distance < DECAY * C
    at = np.rint(distance[kept] / C * RATE * FINE).astype(np.intp)
    fine = np.bincount(at, reflection ** count[kept] / (4 * np.pi * distance[kept]), int(DECAY * RATE * FINE) + 1)
    return np.asarray(resample_poly(fine, 1, FINE)) * FINE


def recorded(room: str, microphones: int, count: int) -> list[Wet]:
    """Return clips as heard in a room, the direct sound in place."""
    made = []
    for k, path in enumerate(sorted((DATA / "clean" / "test").iterdir())[:: 30 // CLIPS][:count]):
        dry, _ = soundfile.read(path)
        response = responses(room, microphones, k)
        start = int(np.argmax(np.abs(response[0])))
        heard = fftconvolve(dry[None], response, axes=1)[:, start : start + len(dry)]
        early = fftconvolve(dry, response[0, : start + round(EARLY * RATE)])[start : start + len(dry)]
        scale = 0.5 / np.abs(heard).max()
        made.append(Wet((scale * heard).astype(np.float32), scale * early))
    return made


def ours(clips: list[Wet]) -> tuple[float, list[np.ndarray]]:
    """Return CPU seconds and results."""
    wpe.dereverberate(clips[0].heard[:, :RATE], RATE, wpe.Options())
    return cpu_time(lambda: [wpe.dereverberate(c.heard, RATE, wpe.Options()) for c in clips])


def nara(clips: list[Wet]) -> tuple[float, list[np.ndarray]]:
    """Return CPU seconds and results of nara-wpe with the same window, taps, delay and rounds."""
    python = venv("nara_wpe", ["nara-wpe==0.0.11", "numpy", "scipy"])
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.npz", Path(folder) / "target.npz"
        np.savez(source, **{f"{i:04d}": c.heard for i, c in enumerate(clips)})
        seconds = run_json(python, NARA, clips=str(source), target=str(target))
        with np.load(target) as found:
            return float(seconds), [found[k] for k in sorted(found.files)]


def row(name: str, clips: list[Wet], seconds: float, results: list[np.ndarray]) -> dict[str, Any]:
    """Summarise a method in a room."""
    before = [metrics.si_sdr(c.early, c.heard[0]) for c in clips]
    after = [metrics.si_sdr(c.early, y[0]) for c, y in zip(clips, results, strict=True)]
    scores = [metrics.pesq(c.early, y[0], RATE) for c, y in zip(clips, results, strict=True)]
    return {
        "method": name,
        "n": len(clips),
        "si_sdr": float(np.mean(after)),
        "pesq": float(np.mean([s for s in scores if s is not None])),
        "worst_change": float(np.min(np.subtract(after, before))),
        "rtf": seconds / (sum(c.heard.shape[1] for c in clips) / RATE),
    }


def main() -> None:
    """Print and save every figure."""
    quick = "--quick" in sys.argv
    rows = []
    for room, microphones in [*((r, 1) for r in ROOMS), ("shoebox", 1), ("shoebox", 2), ("shoebox", 4)]:
        clips = recorded(room, microphones, 2 if quick else CLIPS)
        named = {"input": (0.0, [c.heard for c in clips]), "wpe": ours(clips), "nara-wpe 0.0.11": nara(clips)}
        label = "shoebox, simulated" if room == "shoebox" else room
        where = {"room": label, "microphones": microphones, "readme": COLUMNS}
        rows += [where | row(name, clips, *found) for name, found in named.items()]
    facts = {"early_s": EARLY, "shoebox_m": SIZE.tolist(), "shoebox_rt60_s": DECAY, "quick": quick}
    save("speech_rooms_quick" if quick else "speech_rooms", rows, **facts)


if __name__ == "__main__":
    main()
