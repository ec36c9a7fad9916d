"""cnctl doctor"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cnctl.cli.page import emit_page
from cnctl.cli.report import emit_json
from cnctl.errors import shown


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check this machine and installation.

    The exit code is 4 if something is broken.
    """
    from cnctl.commands.doctor import doctor as run

    checks = run()
    if json:
        emit_json({"checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            emit_page([f"{check.status:4}  {check.name:10}  {shown(check.text)}"])
            if check.fix:
                emit_page([f"{'':18}-> {check.fix}"])
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(4)
