# SPDX-License-Identifier: Apache-2.0
"""``--report``: one self-contained page about a run, without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Any

from pellucid.core.lazy import np
from pellucid.domains import pictures
from pellucid.domains.names import native

if TYPE_CHECKING:
    from pellucid.core.types import Array

BINS, WIDTH, HEIGHT = 61, 420, 160  # of the small plots, in bars and pixels
SPAN = 5.0  # histogram: +- this many standard deviations
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#1b1b1b;background:#fff}
h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}
figcaption{font-size:.9em;color:#444}img{max-width:100%;image-rendering:pixelated;border:1px solid #ccc}
.flip{position:relative;display:inline-block}.flip img+img{position:absolute;left:0;top:0;opacity:0}
.flip:hover img+img,.flip:focus img+img{opacity:1}table{border-collapse:collapse}td,th{text-align:left;padding:.15em 1em .15em 0;
vertical-align:top}code,pre{background:#f3f3f3;padding:.1em .3em;white-space:pre-wrap;overflow-wrap:anywhere}
.warning{border-left:4px solid #b35900;padding-left:.8em}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(shown: dict[str, Array], document: dict[str, Any], before: Array, after: Array) -> str:
    """Return the page.

    Parameters
    ----------
    shown : dict of arrays
        8-bit panels ``before``, ``after``, ``residual``.
    document : dict
        The sidecar's document.
    before, after : array
        Physical samples of the same region; the plots are made from them.
    """
    facts = native(document)
    name = html.escape(str(facts["input"].get("name", "input")))
    parts = [
        f"<h1>{name}: {html.escape(facts['plan']['method'])}</h1>",
        "".join(f"<p class=warning>{html.escape(w['text'])}</p>" for w in facts["warnings"]),
        _views(shown),
        "<h2>What was removed</h2>",
        _figure(
            _histogram(before, after, facts), "Histogram of the residual (bars) and a normal law of its width (line)."
        ),
        _figure(
            _spectrum(before, after),
            "Mean power along the first axis, low to high frequency: before (grey), after (black).",
        ),
        "<h2>Figures</h2>",
        _table(facts),
        "<h2>Command</h2>",
        f"<pre>pellucid {html.escape(' '.join(facts.get('command', [])))}</pre>",
        "<h2>Sidecar</h2>",
        f"<details><summary>everything</summary><pre>{html.escape(json.dumps(facts, indent=1, sort_keys=True))}</pre></details>",
    ]
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}<title>{name}</title><style>{STYLE}</style></head><body>{body}</body></html>\n'


def _image(image: Array, text: str) -> str:
    data = base64.b64encode(pictures.png_bytes(image)).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _views(shown: dict[str, Array]) -> str:
    flip = _image(shown["before"], "before") + _image(shown["after"], "after")
    return (
        f"<figure><span class=flip tabindex=0>{flip}</span><figcaption>Before; point at it to see after.</figcaption></figure>"
        + _figure(_image(shown["after"], "after"), "After, in the same window.")
        + _figure(_image(shown["residual"], "removed"), "Removed: should look like noise.")
    )


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _histogram(before: Array, after: Array, facts: dict[str, Any]) -> str:
    residual = np.real(before - after).ravel()
    residual = residual[np.isfinite(residual) & (residual != 0)]
    sd = float(residual.std()) if residual.size else 0.0
    if not sd:
        return _svg("", "nothing was removed")
    counts, edges = np.histogram(residual, BINS, (-SPAN * sd, SPAN * sd))
    centres = (edges[:-1] + edges[1:]) / 2
    law = np.exp(-(centres**2) / (2 * sd**2))
    law *= counts.sum() / law.sum()
    top = float(max(counts.max(), law.max()))
    step = WIDTH / BINS
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{HEIGHT * (1 - c / top):.1f}" width="{step:.1f}" height="{HEIGHT * c / top:.1f}" fill="#bbb"/>'
        for i, c in enumerate(counts)
    )
    return _svg(bars + _line(law / top), f"residual histogram, standard deviation {sd:.4g}")


def _spectrum(before: Array, after: Array) -> str:
    curves = []
    for values in (before, after):
        columns = np.nan_to_num(np.real(values)).reshape(values.shape[0], -1)[:4096, :512]
        power = np.abs(np.fft.rfft(columns - columns.mean(0), axis=0)) ** 2
        mean = power.mean(1)[1:] + 1e-30
        groups = np.array_split(mean, min(BINS, len(mean))) if len(mean) else [np.ones(1)]
        curves.append(np.log10([g.mean() for g in groups]))
    low, high = min(c.min() for c in curves), max(c.max() for c in curves)
    scaled = [(c - low) / ((high - low) or 1) for c in curves]
    return _svg(_line(scaled[0], "#999") + _line(scaled[1]), "power spectrum before and after")


def _line(heights: Array, colour: str = "#000") -> str:
    step = WIDTH / max(len(heights), 1)
    points = " ".join(f"{(i + 0.5) * step:.1f},{HEIGHT * (1 - h):.1f}" for i, h in enumerate(heights))
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'


def _svg(content: str, text: str) -> str:
    label = html.escape(text)
    return f'<svg role="img" aria-label="{label}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">{content}</svg>'


def _table(facts: dict[str, Any]) -> str:
    measured, plan = facts["measured"], facts["plan"]
    rows = [
        ("input", f"{facts['input']['format']} {facts['input']['shape']} {facts['input']['dtype']}"),
        ("output", f"{facts['output']['format']} {facts['output']['shape']} {facts['output']['dtype']}"),
        ("method", f"{plan['method']} ({plan['why']})"),
        ("noise", json.dumps(plan["noise"]) if plan["noise"] else "found by the method"),
        *((f"median {k}", f"{v['median']:.5g}") for k, v in measured.get("maps", {}).items()),
        ("residual", ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in measured["residual"].items())),
        ("samples changed", f"{100 * measured['changed']:.2f} %"),
        ("samples clipped", str(measured["clipped"])),
        ("time", f"{facts['seconds']['cpu']:.1f} CPU s, {facts['seconds']['wall']:.1f} s"),
    ]
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
    return f"<table>{cells}</table>"
