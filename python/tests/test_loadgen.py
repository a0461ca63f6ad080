"""LoadGen drives the engine in every scenario. Here for a second each, which makes no result: the bench is what makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
BENCH = ROOT / "benches" / "loadgen" / "loadgen.py"


def loadgen(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_scenario_runs_and_says_that_it_was_shortened(scenario: str, tmp_path: Path) -> None:
    done = loadgen(tmp_path, "--scenario", scenario, "--min-duration-s", "1")
    header, _, row = (line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|"))
    table = {key.strip(): value.strip() for key, value in zip(header, row, strict=True)}
    # Whether LoadGen calls a second's run VALID depends on the machine's speed; that it is no result does not.
    assert table["scenario"] == scenario and table["LoadGen says"].endswith("(SHORTENED: no result)"), done.stdout
    assert table["failed"] == "0" and int(table["samples"]) >= 1
    valid = table["LoadGen says"].startswith("VALID")
    assert done.returncode == (0 if valid else 1), done.stderr
    assert (tmp_path / f"digits-{scenario}" / "mlperf_log_summary.txt").is_file()


def test_requests_that_fail_fail_the_run(tmp_path: Path) -> None:
    done = loadgen(tmp_path, "--scenario", "SingleStream", "--min-duration-s", "0.2", "--policy", "none", "--deadline-s", "0.000001")
    assert done.returncode == 1 and "a request failed: " in done.stderr, done.stderr


@pytest.mark.skipif("COLLAGE_PROGRAM" not in os.environ, reason="COLLAGE_PROGRAM names no collage program to compare with")
def test_accuracy_is_the_programs(tmp_path: Path) -> None:
    done = loadgen(tmp_path, "--accuracy", "--scenario", "Offline")
    assert done.returncode == 0, done.stderr
    card = (ROOT / "weights" / "digits-base.md").read_text()
    assert "594 of 597" in card and "| 597 of 597 | 594 |" in done.stdout and "594 correct" in done.stdout, done.stdout
