# SPDX-License-Identifier: Apache-2.0
"""Camera raw of every maker, as LibRaw decodes it; read only, the default output is DNG.

Only the visible area is given, as stored: no black level taken off, nothing scaled. LibRaw opens
cut files without complaint; the bytes are counted before it sees them and samples checked after.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError
from pellucid.core.lazy import np
from pellucid.core.types import Description, FormatTraits, Reader, Region
from pellucid.formats import dng_tags, plausible
from pellucid.formats.optical_black import Facts

if TYPE_CHECKING:
    from pellucid.core.types import Array

# fmt: off
SUFFIXES = (
    ".3fr", ".ari", ".arw", ".bay", ".bmq", ".cap", ".cine", ".cr2", ".cr3", ".crw", ".cs1", ".dc2", ".dcr", ".drf",
    ".dsc", ".erf", ".fff", ".iiq", ".k25", ".kc2", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf",
    ".pef", ".ptx", ".pxn", ".qtk", ".raf", ".rdc", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".sti", ".x3f",
)
# First bytes of raw formats that are no TIFF: Canon CRW, Fujifilm, Minolta, Sigma, Olympus, Panasonic, Phantom ...
SIGNS = (
    b"FUJIFILM", b"\0MRM", b"FOVb", b"IIRO", b"MMOR", b"IIRS", b"IIU\0", b"ARRI", b"NOKIARAW", b"qktk", b"qktn",
    b"DSC-Image", b"PWAD", b"RED1", b"SMaL", b"STV680", b"PXN",
)
# fmt: on
FORMAT = FormatTraits(
    name="libraw",
    title="camera raw",
    suffixes=SUFFIXES,
    writes=(),
    keeps="read only: levels, colours, exposure, make and model go into the DNG that is written",
    fallback=".dng",
)

CANON = ((6, b"HEAPCCDR"), (4, b"ftypcrx"), (8, b"CR\x02"))
KODAK_C330 = (2247168, 3370752)  # bytes: these files have no header, LibRaw knows them by their length
ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip as TIFF's tag
MOST_ABOVE = 1e-4  # of all sites may exceed what the bits can hold: more means garbage
_STDERR = threading.Lock()


@dataclass(frozen=True)
class Frame:
    """Where the visible area lies in the full frame."""

    height: int
    width: int
    rows: slice
    columns: slice
    samples: int  # 1, or 3 where the file is demosaicked
    checked: bool  # compressed: samples that are all equal mean that decoding failed


def recognise(head: bytes, name: str) -> float:
    """Return a high certainty for a maker's signature, or TIFF under a raw suffix; DNG is left to ``dng``."""
    if head.startswith(SIGNS) or any(head[at : at + len(sign)] == sign for at, sign in CANON):
        return 0.98
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        return 0.97 if dng_tags.is_tiff(head) else 0.4
    if suffix in (".raw", "") and not dng_tags.is_tiff(head):
        try:
            return 0.45 if os.stat(name).st_size in KODAK_C330 else 0.0
        except (OSError, ValueError):
            return 0.0
    return 0.0


def open(path: Path, **hints: Any) -> Reader:
    """Read the header of a file; hints ``width height bits`` say that it has none."""
    path = Path(path)
    if hints.get("width") or hints.get("height"):
        from pellucid.formats import headerless

        return headerless.open(path, **hints)
    tree = _tree(path)
    with header(path) as raw:
        limit(path, raw)
        full = unpack_open(path, raw)  # the binding tells colours and levels only of unpacked files
        frame, facts, notes = _frame(path, raw), acquisition(raw), tuple(notes_of(raw, raw.raw_type.name != "Flat"))
    if "colours" in {code for code, _ in notes} and "cfa" in facts:
        hint = "convert it to DNG with its maker's colours, for instance with Adobe DNG Converter"
        raise FormatError(path, "colours", "its filters are not red, green and blue", hint)
    if frame.samples == 1 and not _signed(path):
        what = "has no header; only its length looks like that of a known camera"
        raise FormatError(path, "", what, "say what it is with --width, --height, --bits and --cfa")
    facts |= _camera(path, tree)
    check(path, full, frame, facts["white"])
    reader = RawReader(path, describe("libraw", frame, facts, notes), frame)
    reader._held.append(full)
    return reader


def _tree(path: Path) -> dng_tags.Tree | None:
    """Return the directories of TIFF-based files, whose strips and tiles must lie inside."""
    with path.open("rb") as file:
        if not dng_tags.is_tiff(file.read(4)):
            return None
    tree = dng_tags.walk(path)
    for directory in tree.directories:
        for offsets, counts in ((273, 279), (324, 325)):
            places, sizes = tree.values(directory, offsets), tree.values(directory, counts)
            if places and sizes and max(a + n for a, n in zip(places, sizes, strict=False)) > tree.size:
                what = f"a picture does not fit the {tree.size} bytes of the file"
                raise FormatError(path, "strips", what, "the file is cut short: copy it again from its source")
    return tree


def _signed(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(64)
    return dng_tags.is_tiff(head) or recognise(head, "") > 0.5 or path.suffix.lower() in SUFFIXES


def _camera(path: Path, tree: dng_tags.Tree | None) -> dict[str, Any]:
    """Return make and model, which LibRaw's binding does not tell."""
    if tree is None:
        with path.open("rb") as file:
            head = file.read(64)
        text = head[28:60].split(b"\0")[0].decode("ascii", "replace").strip()
        return {"make": "Fujifilm", "model": text} if head.startswith(b"FUJIFILM") else {}
    known = {"make": tree.text(tree.first, 271), "model": tree.text(tree.first, 272)}
    return {k: v for k, v in known.items() if v}


@contextmanager
def header(path: Path) -> Iterator[Any]:
    """Open a file with LibRaw; its complaints become one error, its text on the C stderr is dropped."""
    import rawpy

    try:
        with _STDERR, _quiet():
            raw = rawpy.RawPy()
            raw.open_file(str(path))
    except rawpy.LibRawError as error:
        raise _failure(path, error) from None
    except OSError as error:
        raise FormatError(path, "file", error.strerror or "cannot be read") from error
    try:
        yield raw
    finally:
        raw.close()


def _failure(path: Path, error: Exception) -> FormatError:
    text = error.args[0] if error.args else error
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    what = f"cannot be decoded by LibRaw ({said.strip().rstrip('.').lower()})"
    return FormatError(path, "raw data", what, "copy it again from its source, or convert it to DNG")


@contextmanager
def _quiet() -> Iterator[None]:
    """Send the C library's stderr to nowhere; callers hold the lock, file descriptors are the process's."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def limit(path: Path, raw: Any) -> None:
    """Refuse frames that the file cannot hold, before memory is taken."""
    plausible.check(path, raw.sizes.raw_height * raw.sizes.raw_width * 2, path.stat().st_size)


def _frame(path: Path, raw: Any) -> Frame:
    s = raw.sizes
    rows, columns = (slice(a, a + n) for a, n in ((s.top_margin, s.height), (s.left_margin, s.width)))
    return Frame(s.raw_height, s.raw_width, rows, columns, 1 if raw.raw_type.name == "Flat" else 3, True)


def acquisition(raw: Any, cfa: list[list[int]] | None = None) -> dict[str, Any]:
    """Return what LibRaw says, in neutral words.

    Parameters
    ----------
    cfa : list of rows, optional
        Colours as the tags say; empty for linear raw. LibRaw is asked where it is None.
    """
    facts: dict[str, Any] = {"white": int(raw.white_level), "bits": max(1, int(raw.white_level)).bit_length()}
    levels = [float(v) for v in raw.black_level_per_channel]
    if cfa is None and raw.raw_pattern is not None:
        cfa = np.asarray(raw.raw_pattern).tolist()
    if cfa:
        facts["cfa"] = cfa
        facts["black"] = [[levels[min(c, 3)] for c in row] for row in cfa]
    else:
        facts["black"] = [[levels[0]]] if raw.num_colors == 1 else levels[:3]
    facts |= balance(raw)
    matrix = np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]
    if np.isfinite(matrix).all() and matrix.any():
        facts |= {"color_matrix": [matrix.tolist()], "illuminants": [21]}
    other = raw.other
    known = {"iso": other.iso_speed, "exposure_s": other.shutter_speed}
    facts |= {k: float(v) for k, v in known.items() if v and math.isfinite(v) and v > 0}
    if (turn := ORIENTATIONS.get(raw.sizes.flip, 1)) != 1:
        facts["orientation"] = turn
    return facts


def balance(raw: Any) -> dict[str, Any]:
    """Return the gains of red, green (1), blue, second green; a gain of 0 is unknown: daylight is taken instead."""
    for source, gains in (("camera", raw.camera_whitebalance), ("daylight", raw.daylight_whitebalance)):
        g = [float(v) for v in gains]
        if all(math.isfinite(v) and v > 0 for v in g[:3]) and (source == "camera" or len(set(g[:3])) > 1):
            second = g[3] if math.isfinite(g[3]) and g[3] > 0 else g[1]  # 0 means the same as green
            return {"wb": [v / g[1] for v in (*g[:3], second)], "wb_source": source}
    return {"wb_source": "none"}


def notes_of(raw: Any, linear: bool) -> Iterator[tuple[str, str]]:
    """Yield what a user should know."""
    if linear:
        yield "already-demosaiced", "linear raw data: already demosaiced, neighbours share their noise"
    if raw.color_desc not in (b"RGBG", b"RGB\0", b"RGB"):
        yield "colours", "the colour filters are not red, green and blue"
    found = balance(raw)["wb_source"]
    if found != "camera":
        what = "daylight is taken" if found == "daylight" else "develop takes the picture's own grey"
        yield "white-balance", f"the file does not say its white balance: {what}"


def describe(name: str, frame: Frame, facts: dict[str, Any], notes: tuple[tuple[str, str], ...]) -> Description:
    """Return the neutral description of the visible area."""
    shape: tuple[int, ...] = (frame.rows.stop - frame.rows.start, frame.columns.stop - frame.columns.start)
    if frame.samples > 1:
        shape += (frame.samples,)
    return Description(
        format=name,
        shape=shape,
        axes=("y", "x", "channel")[: len(shape)],
        dtype="uint16",
        kind="mosaic" if "cfa" in facts else "linear",
        spacing=(None,) * len(shape),
        units=(None,) * len(shape),
        out_dtype="uint16",
        acquisition=facts,
        notes=notes,
    )


@dataclass
class RawReader:
    """Reader that unpacks the frame at the first read and keeps it."""

    path: Path
    description: Description
    frame: Frame
    _held: list[Array] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        facts = self.description.acquisition
        self.description = self.description.with_(acquisition=Facts(dict(facts), self.path, self.frame))
        self.description.acquisition.source = self.full  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _held=[], _lock=threading.RLock())
        self.description.acquisition.source = self.full  # type: ignore[attr-defined]

    def read(self, region: Region) -> Array:
        """Return stored samples of a region of the visible area."""
        return self.visible()[region].copy()

    def mask(self, region: Region) -> Array:
        """Return where samples may be changed: neither saturated nor known defects."""
        seen = self.visible()[region[:2]]
        whole = seen < self.description.acquisition["white"]
        return np.asarray(whole if seen.ndim == 2 else whole.all(-1))

    def visible(self) -> Array:
        """Return the visible area, a view of the frame."""
        return self.full()[self.frame.rows, self.frame.columns]

    def full(self) -> Array:
        """Return the whole frame ``(y, x)`` or ``(y, x, channel)``, margins included."""
        with self._lock:
            if not self._held:
                self._held.append(self.decode())
            return self._held[0]

    def decode(self) -> Array:
        """Unpack and check the samples."""
        return unpack(self.path, self.frame, int(self.description.acquisition["white"]))

    def close(self) -> None:
        """Forget the samples."""
        with self._lock:
            self._held.clear()


def unpack(path: Path, frame: Frame, white: int) -> Array:
    """Return the full frame as LibRaw unpacks it, checked.

    Raises
    ------
    FormatError
        LibRaw gives up, or what it gives cannot be measurements.
    """
    with header(path) as raw:
        limit(path, raw)
        found = unpack_open(path, raw)
    check(path, found, frame, white)
    return found


def unpack_open(path: Path, raw: Any) -> Array:
    """Return the full frame of a file that is open; LibRaw's own memory goes when it is closed."""
    import rawpy

    try:
        with _STDERR, _quiet():
            raw.unpack()
            seen = raw.raw_image
            return np.array(seen[:, :, :3] if seen.ndim == 3 else seen, np.uint16, order="C")  # the 4th is empty
    except rawpy.LibRawError as error:
        raise _failure(path, error) from None
    except (AttributeError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise FormatError(path, "raw data", f"cannot be decoded ({error})", "copy it again") from error


def check(path: Path, found: Array, frame: Frame, white: int) -> None:
    """Refuse samples that cannot be measurements.

    Raises
    ------
    FormatError
        Another size than the header says, all the same, or more than the bits can hold.
    """
    shape = (*found.shape, 1)[:3]
    if shape[2] != frame.samples or shape[0] < frame.rows.stop or shape[1] < frame.columns.stop or not found.size:
        raise FormatError(path, "raw data", f"is {found.shape}, smaller than the picture its header describes")
    most = (1 << max(1, white).bit_length()) - 1
    above = int(np.count_nonzero(found > most)) if most < 65535 else 0
    constant = frame.checked and int(found.min()) == int(found.max())
    if above > MOST_ABOVE * found.size or constant:
        what = "truncated or undecodable raw data"
        raise FormatError(path, "raw data", what, "copy it again from its source, or convert it to DNG")
