# SPDX-License-Identifier: Apache-2.0
"""The one door out: exceptions become exit codes here, and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from pellucid.core.errors import Exit, PellucidError

EPILOG = (
    "Exit codes: 0 done, 1 a bug in pellucid, 2 usage, 3 refused, 4 unreadable input, 5 some files failed, "
    "6 output not written, 7 something is missing, 75 try again later, 128+n ended by signal n."
)
HELP = """Make scientific measurements clearer.

Point it at the instrument's own file; get back a better file of the same kind.

\b
  pellucid demo                        see it work on a simulated scan
  pellucid mri denoise dwi.nii.gz      writes dwi_denoised.nii.gz beside it
"""


def app() -> Any:
    """Return the root command."""
    import typer

    from pellucid.cli.root import Root

    root = typer.Typer(
        cls=Root,
        help=HELP,
        epilog=EPILOG,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def version(value: bool) -> None:
        if value:
            from pellucid import __version__

            print(f"pellucid {__version__}")
            raise typer.Exit

    @root.callback()
    def pellucid(
        show: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    ) -> None:
        """Take no action; fields and tools do."""

    return root


class Ended(BaseException):
    """A signal asked the process to end; nothing may catch this but the door."""

    def __init__(self, number: int) -> None:
        self.number = number


def _on_signal(number: int, frame: object) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # a second one ends at once
    raise Ended(number)


def _prepare() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
    # tiles run in parallel, so each library keeps to one thread; must be set before NumPy loads
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _on_signal)


def say(text: str) -> None:
    """Print one line on stderr; a closed stderr is no reason to fail."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    _prepare()
    sys.exit(_guarded(sys.argv[1:]))


def _guarded(arguments: list[str]) -> int:
    import typer

    try:
        from pellucid.cli.config import default_map

        result = app()(args=arguments, prog_name="pellucid", standalone_mode=False, default_map=default_map(arguments))
        sys.stdout.flush()
        return int(result) if isinstance(result, int) else Exit.DONE
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.TyperException as error:
        if error.format_message().startswith("Usage:"):  # a bare command shows its help
            say(error.format_message())
            return Exit.USAGE
        say(f"pellucid: {error.format_message()}: see 'pellucid --help'".replace(".: see", ": see"))
        return Exit.USAGE
    except PellucidError as error:
        say(f"pellucid: {error}")
        return _traced(error, int(error.code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter's own flush must not complain
        return Exit.DONE
    except Ended as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
        return 128 + ended.number
    except MemoryError:
        say("pellucid: ran out of memory: give a smaller --max-memory or a machine with more")
        return Exit.MISSING
    except Exception as error:
        say(f"pellucid: a bug in pellucid: {type(error).__name__}: {error}: run again with --debug and report it")
        return _traced(error, Exit.BUG)


def _traced(error: BaseException, code: int) -> int:
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    return code


if __name__ == "__main__":
    main()
