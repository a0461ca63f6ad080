#!/usr/bin/env python3
"""Classifies the images of a folder, and prints each one's class as soon as it is known.

    python classify_folder.py photos/ --model resnet34.safetensors --arch resnet34 --device cuda
    python classify_folder.py digits/                       # the embedded digits model

The images are submitted from one thread and answered in whatever order the engine has them; files that are no images are
named on standard error, and make the exit status 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
from pathlib import Path

import collage

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a base model's file (default: the embedded digits)")
    parser.add_argument("--arch", help="its architecture, if the file does not say")
    parser.add_argument("--device", help="auto, cpu:2, cuda:0, ... (default: auto)")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds for each image (default: 10)")
    parser.add_argument("--in-flight", type=int, default=64, help="images that are in the engine at once (default: 64)")
    given = parser.parse_args()

    files = sorted(path for path in given.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        print(f"{given.folder}: no images", file=sys.stderr)
        return 1
    failures = 0
    begin = time.monotonic()
    with collage.Engine(given.model, arch=given.arch, device=given.device, deadline=given.deadline) as engine:
        waiting: dict[concurrent.futures.Future[collage.Answer], Path] = {}
        for path in files:
            if len(waiting) >= given.in_flight:
                failures += show(waiting, concurrent.futures.FIRST_COMPLETED)
            try:
                waiting[engine.submit(path)] = path
            except (collage.CollageError, OSError) as error:
                failures += complain(path, error)
        failures += show(waiting, concurrent.futures.ALL_COMPLETED)
    seconds = time.monotonic() - begin
    print(f"{len(files) - failures} of {len(files)} images in {seconds:.2f} s", file=sys.stderr)
    return 1 if failures else 0


def show(waiting: dict[concurrent.futures.Future[collage.Answer], Path], until: str) -> int:
    """Waits until some or all are settled, prints those, and returns how many of them failed."""
    failures = 0
    for ticket in concurrent.futures.wait(waiting, return_when=until).done:
        path = waiting.pop(ticket)
        error = ticket.exception()
        if error is not None:
            failures += complain(path, error)
            continue
        answer = ticket.result()
        print(f"{path}\t{answer.label}\t{answer.confidence:.3f}\t{answer.source}", flush=True)
    return failures


def complain(path: Path, error: BaseException) -> int:
    print(f"{path}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
