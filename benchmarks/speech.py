# SPDX-License-Identifier: Apache-2.0
"""Speech: ``omlsa`` beside other denoisers on test mixtures, VoiceBank pairs and clean recordings.

    python -m benchmarks.speech [--quick] [--networks]

Needs pesq and pystoi and the folder named by PELLUCID_TEST_DATA (``speech/``): LibriSpeech crops, noise
clips, lists of mixtures, six VoiceBank-DEMAND pairs of speaker p287. Networks were trained on LibriVox and
Freesound recordings, perhaps on these: their rows are upper bounds.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.peers import cpu_time, save
from benchmarks.speech_peers import CLASSICAL, NETWORKS
from pellucid.core.types import Plan, Tile
from pellucid.domains.speech import metrics, omlsa

DATA = Path(os.environ.get("PELLUCID_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "speech"
RATE = 16_000
QUICK = 12
DRAWS = 2000  # of the bootstrap
IMPULSIVE = ("things_keyboard", "things_typewriter")


@dataclass(frozen=True)
class Clip:
    """One noisy recording and its clean reference."""

    name: str
    clean: np.ndarray
    noisy: np.ndarray


def mixtures(listing: str, folder: str) -> list[Clip]:
    """Return mixtures made as the lists say; both sides are scaled where the sum would clip."""
    clips = []
    with open(DATA / listing) as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        s, _ = soundfile.read(DATA / "clean" / folder / row["speech"])
        v, _ = soundfile.read(DATA / "noise" / folder / row["noise"])
        at = int(row["noise_offset"])
        v = np.tile(v, 2)[at : at + len(s)]
        noisy = s + v * np.sqrt(np.mean(s**2) / np.mean(v**2) / 10 ** (float(row["snr_db"]) / 10))
        k = min(1.0, 0.95 / np.abs(noisy).max())
        clips.append(Clip(f"{row['speech'][:-5]} {row['noise'][:-5]} {row['snr_db']}", k * s, k * noisy))
    return clips


def pairs() -> list[Clip]:
    """Return the VoiceBank-DEMAND pairs."""
    home = DATA / "pairs_voicebank_p287"
    names = sorted(p.name for p in (home / "clean").iterdir())
    return [Clip(n, *(soundfile.read(home / part / n)[0] for part in ("clean", "noisy"))) for n in names]


def clean() -> list[Clip]:
    """Return clean recordings as if they were noisy."""
    files = sorted((DATA / "clean" / "test").iterdir())
    return [Clip(p.stem, s, s) for p in files for s in [soundfile.read(p)[0]]]


def ours(sound: np.ndarray, block: int = RATE, **options: Any) -> np.ndarray:
    """Denoise as a stream."""
    plan, carry, out = Plan("omlsa", omlsa.Options(**options), extras={"rate_hz": RATE}), None, []
    sound, rng = sound.astype(np.float32), np.random.default_rng(0)
    for a in range(0, len(sound), block):
        piece = sound[a : a + block]
        window = (slice(a, a + len(piece)),)
        result = omlsa.run(Tile(piece, window, window, (len(sound),), None, carry), None, plan, rng)
        carry = result.carry
        out.append(result.values)
    return np.concatenate([*out, omlsa.finish(carry, plan).values])


def scores(clips: list[Clip], results: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return SI-SDR, its change, PESQ, STOI and level change of every clip; nan where a score is undefined."""
    rows = []
    for clip, y in zip(clips, results, strict=True):
        s, n = clip.clean, len(clip.clean)
        y = np.asarray(y[:n], np.float64)
        values = [metrics.si_sdr(s, y), metrics.si_sdr(s, clip.noisy)]
        values += [np.nan if v is None else v for v in (metrics.pesq(s, y, RATE), metrics.stoi(s, y, RATE))]
        rows.append([*values, metrics.segmental_snr(s, y, RATE), 10 * np.log10(np.mean(y**2) / np.mean(clip.noisy**2))])
    sdr, before, pesq, stoi, segmental, level = np.array(rows).T
    return {"si_sdr": sdr, "change": sdr - before, "pesq": pesq, "stoi": stoi, "segmental": segmental, "level": level}


def row(name: str, group: str, clips: list[Clip], seconds: float, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Summarise a method on a group of clips."""
    known = [c.noisy is not c.clean for c in clips]  # a clean input can only lose
    lost = {c.name: round(float(d), 2) for c, d, k in zip(clips, found["change"], known, strict=True) if k and d < -1}
    audio = sum(len(c.noisy) for c in clips) / RATE
    return {
        "set": group,
        "method": name,
        "n": len(clips),
        "si_sdr": float(found["si_sdr"].mean()),
        "si_sdr_median": float(np.median(found["si_sdr"])),
        "pesq": float(np.nanmean(found["pesq"])),
        "stoi": float(np.nanmean(found["stoi"])),
        "segmental_snr": float(found["segmental"].mean()),
        "level_change": float(found["level"].mean()),
        "worst_change": float(found["change"].min()),
        "lost_more_than_1_dB": lost,
        "rtf": seconds / audio,
    }


def interval(ours_: np.ndarray, other: np.ndarray) -> list[float]:
    """Return the paired bootstrap 95 % interval of the mean difference ours - other."""
    difference = ours_ - other
    difference = difference[np.isfinite(difference)]
    pick = np.random.default_rng(0).integers(0, len(difference), (DRAWS, len(difference)))
    return [round(float(q), 3) for q in np.quantile(difference[pick].mean(axis=1), [0.025, 0.975])]


def compare(group: str, clips: list[Clip], networks: bool) -> list[dict[str, Any]]:
    """Return a row for the input, ours and every peer."""
    noisy = [c.noisy for c in clips]
    ours(noisy[0])
    seconds, results = cpu_time(lambda: [ours(x) for x in noisy])
    best = scores(clips, results)
    rows = [row("omlsa", group, clips, seconds, best), row("input", group, clips, 0.0, scores(clips, noisy))]
    for peer in CLASSICAL + (NETWORKS if networks else ()):
        seconds, results = peer.denoise(noisy)
        found = scores(clips, results)
        made = row(peer.name, group, clips, seconds, found)
        made |= {f"ours_minus_{k}": interval(best[k], found[k]) for k in ("si_sdr", "pesq", "stoi")}
        rows.append(made)
    return rows


def second_pass(clips: list[Clip]) -> float:
    """Return what a second pass changes, as a share of the first (root mean square, mean over clips)."""
    shares = []
    for clip in clips:
        once = ours(clip.noisy)
        shares.append(np.std(ours(once) - once) / np.std(once - clip.noisy))
    return float(np.mean(shares))


def main() -> None:
    """Print and save every figure."""
    quick, networks = "--quick" in sys.argv, "--networks" in sys.argv
    test = mixtures("mixtures_test.tsv", "test")
    step = max(1, len(test) // QUICK) if quick else 1
    rows = compare("test mixtures", test[::step], networks)
    rows += compare("VoiceBank p287", pairs(), networks)
    rows += compare("clean speech in", clean()[::step], networks)
    long = np.concatenate([c.noisy for c in test])
    facts = {
        "second_pass_share": second_pass(test[:: 4 * step]),
        "rtf_16k_ten_minutes": cpu_time(lambda: ours(long))[0] / (len(long) / RATE),
        "blocks_equal": all(np.array_equal(ours(test[0].noisy), ours(test[0].noisy, b)) for b in (160, 4096, 10**9)),
        "impulsive": list(IMPULSIVE),
        "quick": quick,
    }
    name = "speech_networks" if networks else "speech"
    save(f"{name}_quick" if quick else name, rows, **facts)
    print(facts)


if __name__ == "__main__":
    main()
