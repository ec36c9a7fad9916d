"""The command line: one file per command, which parses, calls one function and prints.

Nothing here or beside it imports torch, numpy or a plugin at the top: `cnctl --help` stays quick.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, NoReturn, TextIO

import typer

from cnctl.cli.group import ClosedPipe, Program
from cnctl.cli.usage_errors import describe_usage_error
from cnctl.errors import CnctlError, ReportedByOtherRank, one_line, reason, shown, write_error
from cnctl.system.chatter import hush
from cnctl.system.processes import rank
from cnctl.system.working_folder import kept_working_folder

NO_TEMPORARY = "No usable temporary directory"
"""What Python's tempfile says, in FileNotFoundError."""

app = typer.Typer(
    name="cnctl",
    cls=Program,
    help="ControlNets from the command line, from the first hint to the last image.",
    rich_markup_mode=None,  # rich would double the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --version: the libraries' versions too.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CNCTL_DEBUG", help="Show tracebacks and warnings.")
    ] = False,
) -> None:
    if version:
        from cnctl.version import versions

        for name, number in versions(libraries=verbose).items():
            print(name, number)
        raise typer.Exit
    if verbose:
        raise CnctlError("-v goes with --version", hint="see cnctl --help")
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(CnctlError.exit_code)
    if not debug:
        hush()
    if any(name.startswith("CNCTL_") for name in os.environ):
        _note_unread()


def _note_unread() -> None:
    from cnctl.cli.report import note
    from cnctl.settings.environment import describe_unread

    for text in describe_unread(os.environ):
        note(f"cnctl: {text}")


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt so that no file is left half written."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code that the documentation's table promises."""
    with _raise_at_sigterm(), kept_working_folder():
        code = _run(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)
    sys.exit(code)


def _give_up(stream: TextIO) -> None:
    """A broken or full stream leads nowhere: Python would fail to flush it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _raise_at_sigterm() -> Iterator[None]:
    def terminate(number: int, frame: object) -> NoReturn:
        raise Terminated

    earlier = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _run(arguments: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file name's bytes leave as they came
    try:
        code = app(arguments, standalone_mode=False, prog_name="cnctl") or 0
        if code == 130:  # Typer has caught Ctrl-C and says no more
            raise KeyboardInterrupt
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, ClosedPipe, Terminated) as error:
        if not isinstance(error, typer.TyperException) and _is_debugging(arguments):
            raise
        return _report(error)
    return code


def _is_debugging(arguments: Sequence[str]) -> bool:
    from cnctl.settings.environment import is_on

    with suppress(CnctlError):  # Typer has refused such a value
        return "--debug" in arguments or is_on("CNCTL_DEBUG")
    return False


def _report(error: BaseException) -> int:
    """Say in one line what went wrong; return the exit code."""
    if isinstance(error, OSError | ClosedPipe) and not getattr(error, "filename", None):
        _give_up(sys.stdout)
    if isinstance(error, BrokenPipeError | ClosedPipe):
        return 141
    message, code = _describe(error)
    stopped_with_others = rank() > 0 and isinstance(error, KeyboardInterrupt | Terminated)
    if not (stopped_with_others or isinstance(error, ReportedByOtherRank)):
        with suppress(OSError):  # nobody can read it
            print(f"cnctl: {one_line(message)}", file=sys.stderr)
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    import errno

    match error:
        case CnctlError():
            return "; ".join(filter(None, [str(error), error.hint])), error.exit_code
        case typer.TyperException():
            return describe_usage_error(error), error.exit_code
        case KeyboardInterrupt() | typer.Abort():
            return "interrupted", 130
        case Terminated():
            return "terminated", 143
        case MemoryError():
            return "out of memory; try a smaller size or batch", 5
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EROFS):
            return _describe(write_error(error.filename or "the output", error))
        case PermissionError(filename=str(path)):  # outputs are checked before work begins
            return f"{shown(path)}: {reason(error)}; check its permissions", CnctlError.exit_code
        case FileNotFoundError() if NO_TEMPORARY in str(error):
            return "no folder for temporary files; set TMPDIR to one that can be written", 6
    if type(error).__name__ == "OutOfMemoryError":
        return "out of device memory; try a smaller size or batch", 5
    return f"unexpected {type(error).__name__}: {one_line(str(error))}; see it with --debug", 1
