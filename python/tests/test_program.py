"""The package, the program and the example say the same of the same images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import collage
import pytest
from conftest import ROOT

PROGRAM = os.environ.get("COLLAGE_PROGRAM")
EXAMPLE = ROOT / "python" / "examples" / "classify_folder.py"


def example(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLE, *arguments, "--device", "cpu:1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(PROGRAM is None, reason="COLLAGE_PROGRAM names no collage program to compare with")
def test_answers_are_those_of_the_program(engine: collage.Engine, folder: Path) -> None:
    files = sorted(folder.iterdir())
    command = [str(PROGRAM), "--json", "classify", *map(str, files), "--device", "cpu:1", "--top", "5"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    answers = engine.classify(files)
    assert len(answers) == len(report["images"]) == 12
    for answer, image in zip(answers, report["images"], strict=True):
        assert [(s.class_index, s.label) for s in answer.top] == [(s["index"], s["class"]) for s in image["base"]]
        for ours, theirs in zip(answer.top, image["base"], strict=True):
            # Batches of other sizes may sum in another order.
            assert ours.score == pytest.approx(theirs["score"], rel=1e-4, abs=1e-6)


def test_example_classifies_a_folder(folder: Path) -> None:
    done = example(folder)
    assert done.returncode == 0, done.stderr
    rows = sorted(line.split("\t") for line in done.stdout.splitlines())
    assert [Path(row[0]).name for row in rows] == sorted(path.name for path in folder.iterdir())
    assert all(row[1] in "0123456789" and 0 <= float(row[2]) <= 1 and row[3] in ("base", "collage") for row in rows)
    assert "12 of 12 images" in done.stderr


def test_example_names_what_is_no_image_and_goes_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "fine.png").write_bytes((folder / "00.png").read_bytes())
    (tmp_path / "notes.txt").write_text("no image, and not asked for")
    done = example(tmp_path)
    assert done.returncode == 1 and "broken.png" in done.stderr and "1 of 2 images" in done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["0"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert example(empty).returncode == 1
