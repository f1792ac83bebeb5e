# SPDX-License-Identifier: Apache-2.0
"""Options, declared once; every verb borrows them. The functions have signatures and no body."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def _o(*names: str, help: str, panel: str = "Options", **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=more.pop("show", False), **more)


def inputs(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Files of this field.", show_default=False)
    ] = None,
) -> None:
    """Input files."""


def common(
    out: Annotated[
        str, _o("-o", "--out", help="Output file, or folder for several inputs. Default: beside the input.")
    ] = "",
    method: Annotated[str, _o("-m", "--method", help="Method; default: chosen from the file (see 'methods').")] = "",
    sigma: Annotated[str, _o("--sigma", help="Noise level in input units, N/255, or auto.")] = "auto",
    force: Annotated[bool, _o("--force", help="Replace an existing output.")] = False,
    dry_run: Annotated[bool, _o("--dry-run", help="Print the plan and stop.")] = False,
    preview: Annotated[Path | None, _o("--preview", help="PNG of before, after and residual.")] = None,
) -> None:
    """The six everyone needs."""


def noise(
    noise_in: Annotated[
        Path | None, _o("--noise-in", panel="Noise", help="Read the noise level from a map of the same grid.")
    ] = None,
    noise_out: Annotated[Path | None, _o("--noise-out", panel="Noise", help="Write the noise map.")] = None,
    estimator: Annotated[str, _o("--estimator", panel="Noise", help="Name of the noise estimator.")] = "",
    residual: Annotated[
        Path | None, _o("--residual", panel="Noise", help="Write what was removed; look at it first.")
    ] = None,
    mask: Annotated[Path | None, _o("--mask", panel="Noise", help="Denoise only where this map is above 0.")] = None,
) -> None:
    """Noise and what was removed."""


def output(
    region: Annotated[
        str, _o("--region", panel="Output", help="Denoise only this part, e.g. 10:60,:,5:20; the rest is copied.")
    ] = "",
    report: Annotated[
        Path | None, _o("--report", panel="Output", help="Self-contained HTML page about the run.")
    ] = None,
    out_dtype: Annotated[str, _o("--out-dtype", panel="Output", help="Stored type: same, float32, int16 ...")] = "",
) -> None:
    """What is written."""


def messages(
    key: Annotated[str, _o("--key", panel="Output", help="Which array of a container (.mat, .npz).")] = "",
    axes: Annotated[str, _o("--axes", panel="Output", help="Names of the axes where the format has none (.npy).")] = "",
    force_kind: Annotated[
        str, _o("--force-kind", panel="Output", help="Say what the file is where it looks like something else.")
    ] = "",
    strict: Annotated[bool, _o("--strict", panel="Output", help="Refuse where there would be a warning.")] = False,
    private: Annotated[
        bool, _o("--private", panel="Output", help="Keep names, ids, dates and paths out of every output and message.")
    ] = False,
    json: Annotated[
        bool, _o("--json", panel="Output", help="One JSON document (a line per file in a batch) on stdout.")
    ] = False,
    quiet: Annotated[bool, _o("-q", "--quiet", panel="Output", help="No progress, no line on success.")] = False,
    verbose: Annotated[bool, _o("-v", "--verbose", panel="Output", help="Also print the plan.")] = False,
    debug: Annotated[bool, _o("--debug", panel="Output", help="Traceback on errors.")] = False,
) -> None:
    """How a file is read, and what is said of it."""


def made(
    out: Annotated[
        str, _o("-o", "--out", help="Output file, or folder for several inputs. Default: beside the input.")
    ] = "",
    force: Annotated[bool, _o("--force", help="Replace an existing output.")] = False,
    config: Annotated[
        Path | None, _o("--config", panel="Output", help="Settings from TOML, or repeat the run of a sidecar.")
    ] = None,
) -> None:
    """What verbs take that make something else of a file."""


def compute(
    threads: Annotated[
        int, _o("--threads", panel="Compute", min=0, help="Tiles computed at once; default: what this process may use.")
    ] = 0,
    max_memory: Annotated[
        str, _o("--max-memory", panel="Compute", help="For instance 2G; default: 70 % of the limit.")
    ] = "",
    scratch: Annotated[Path | None, _o("--scratch", panel="Compute", help="Folder for temporary files.")] = None,
    device: Annotated[str, _o("--device", panel="Compute", help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, _o("--seed", panel="Compute", help="Seed of methods that draw random numbers.")] = 0,
    config: Annotated[
        Path | None, _o("--config", panel="Compute", help="Settings from TOML, or repeat the run of a sidecar.")
    ] = None,
) -> None:
    """Resources."""


def batch(
    keep_going: Annotated[
        bool, _o("--keep-going", panel="Batch", help="Go on after a file that fails; exit 5 at the end.")
    ] = False,
    jobs: Annotated[int, _o("--jobs", panel="Batch", min=1, help="Files at once, each in a process of its own.")] = 1,
    resume: Annotated[
        bool, _o("--resume", panel="Batch", help="Skip outputs whose sidecar matches input and plan.")
    ] = False,
    shard: Annotated[str, _o("--shard", panel="Batch", help="i/n (from 0), or auto inside an array job.")] = "",
    files_from: Annotated[
        str, _o("--files-from", panel="Batch", help="Read input names from a file, - for stdin.")
    ] = "",
    relative_to: Annotated[
        Path | None, _o("--relative-to", panel="Batch", help="Keep the folders below this one under -o.")
    ] = None,
    status: Annotated[Path | None, _o("--status", panel="Batch", help="Write a row per file: .tsv or .jsonl.")] = None,
) -> None:
    """Many files."""


def merged(run: Callable[[dict[str, Any]], int], name: str, doc: str, *parts: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the merged signature of ``parts`` that hands all values to ``run`` as a dict."""
    parameters: dict[str, inspect.Parameter] = {}
    for part in parts:
        for parameter in inspect.signature(part, eval_str=True).parameters.values():
            parameters.setdefault(parameter.name, parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**values: Any) -> int:
        return run(values)

    command.__name__, command.__doc__ = name, doc
    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    return command


def of_methods(methods: dict[str, Any], taken: set[str]) -> Callable[..., Any]:
    """Return a declaration function with every option of the given methods; equal names share one flag."""
    helps: dict[str, list[str]] = {}
    kinds: dict[str, Any] = {}
    for method_name, module in methods.items():
        hints = typing.get_type_hints(module.Options)
        for option in module.Options.__dataclass_fields__.values():
            if option.name in taken:
                continue
            text = option.metadata.get("help", "")
            choices = option.metadata.get("choices")
            shown = f"{text} [{'|'.join(map(str, choices))}]" if choices else text
            default = "" if option.default in ("", None) else f" Default {option.default}."
            helps.setdefault(option.name, []).append(f"{method_name}: {shown}{default}")
            kind = _plain(hints[option.name], option.metadata)
            kinds[option.name] = kind if kinds.setdefault(option.name, kind) is kind else str

    def declare() -> None:
        """Methods' own options."""

    declare.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    kinds[name] | None, _o(_flag(name, kinds[name]), panel="Method options", help=" ".join(texts))
                ],
            )
            for name, texts in helps.items()
        ]
    )
    return declare


def _flag(name: str, kind: Any) -> str:
    word = name.replace("_", "-")
    return f"--{word}/--no-{word}" if kind is bool else f"--{word}"


def _plain(kind: Any, metadata: Any) -> Any:
    """Return the type the shell parses: the first of a union, a path where declared."""
    if metadata.get("path"):
        return Path
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        kind = type(typing.get_args(kind)[0])
    return kind if kind in (int, float, bool, str) else str
