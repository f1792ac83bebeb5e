# SPDX-License-Identifier: Apache-2.0
"""DNSMOS P.835: what listeners would say of a recording, guessed by a published network.

Reddy, Gopal, Cutler, ICASSP 2022. The network comes with the package ``speechmos`` and runs in
ONNX Runtime; without either there are no scores.
"""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np

if TYPE_CHECKING:
    from pellucid.core.types import Array

RATE, WINDOW = 16_000, 144_160  # Hz, samples: 9.01 s
MOST = 60 * RATE  # samples of the middle that are looked at
NAMES = ("dnsmos_signal", "dnsmos_background", "dnsmos_overall")
CURVES = (  # from the network's answer to opinions, highest power first; published with it
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


def scores(samples: Array, rate: float) -> dict[str, float] | None:
    """Return opinions from 1 to 5 of voice, background and both, or None where nothing can be said.

    Windows of 9.01 s, one each second, over the middle minute; shorter recordings are repeated.
    """
    net = _network()
    if net is None or not samples.any():
        return None
    limit = round(MOST / RATE * rate)
    start = max(0, (len(samples) - limit) // 2)
    sound = np.clip(_resampled(samples[start : start + limit], rate), -1, 1)
    while len(sound) < WINDOW:  # doubled, as the published program does
        sound = np.concatenate([sound, sound])
    answers = [
        net.run(None, {net.get_inputs()[0].name: sound[None, a : a + WINDOW]})[0][0]
        for a in range(0, RATE * (int(len(sound) // RATE - WINDOW / RATE) + 1), RATE)
    ]
    found = [[float(np.polyval(c, v)) for c, v in zip(CURVES, answer, strict=True)] for answer in answers]
    return dict(zip(NAMES, np.mean(found, axis=0).tolist(), strict=True))


@cache
def _network() -> Any:
    """Return the network, or None where package or runtime are missing."""
    spec = importlib.util.find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("onnxruntime") is None:
        return None
    path = Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    if not path.exists():
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _resampled(samples: Array, rate: float) -> Array:
    if rate == RATE:
        return np.asarray(samples, np.float32)
    from scipy.signal import resample_poly

    ratio = Fraction(RATE / rate).limit_denominator(1000)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), np.float32)
