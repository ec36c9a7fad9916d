"""The program: `cnctl`, or `python -m cnctl`."""

import sys

from cnctl.system.left_threads import exit_in_spite_of_threads
from cnctl.system.standard_streams import replace_closed_streams


def main() -> None:
    """Run the command line; Ctrl-C is answered in one line also while it is being imported."""
    replace_closed_streams()
    try:
        from cnctl.cli import main as run
    except KeyboardInterrupt:
        print("cnctl: interrupted", file=sys.stderr)
        sys.exit(130)
    try:
        run()
    except SystemExit as leave:
        exit_in_spite_of_threads(leave.code if isinstance(leave.code, int) else 0)
        raise


if __name__ == "__main__":
    main()
