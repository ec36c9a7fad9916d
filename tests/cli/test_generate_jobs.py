"""`cnctl generate --jobs -`, by a process that answers each line before it gets the next."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HINT = Path(__file__).parents[2] / "examples/hints/canny-cat.png"


@pytest.mark.slow
def test_answers_each_job_before_the_next_is_sent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnctl", "generate", "--base", "tiny", "--cond", "canny"]
    command += ["--hint", "--steps", "1", "--jobs", "-", "--json", "-q"]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(job: dict[str, object]) -> dict[str, object]:
            print(json.dumps(job), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        first = ask({"image": str(HINT), "prompt": "a cat"})
        assert Path(tmp_path, first["images"][0]["path"]).is_file()
        bad = ask({"image": "missing.png"})
        assert (bad["images"], bad["exit_code"]) == ([], 2)
        assert ask({"image": str(HINT), "seed": 5})["images"][0]["seed"] == 5
        process.stdin.close()
        assert process.wait() == 3
