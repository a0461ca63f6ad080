"""What the tests share: the repository's digits as arrays and as files, and an engine that serves them."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import collage
import numpy
import pytest

ROOT = Path(os.environ.get("COLLAGE_REPOSITORY", Path(__file__).resolve().parents[2]))


class Digits:
    """The held-out digits: images (N, 8, 8) uint8, and their classes."""

    def __init__(self) -> None:
        raw = (ROOT / "weights" / "digits.safetensors").read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])

        def tensor(name: str) -> Any:
            begin, end = header[name]["data_offsets"]
            return numpy.frombuffer(raw[start + begin : start + end], numpy.uint8).reshape(header[name]["shape"])

        held_out = tensor("split") == 1
        self.images = tensor("images")[held_out]
        self.classes = [int(c) for c in tensor("labels")[held_out]]

    def sure(self, count: int) -> tuple[Any, list[int]]:
        """Some that the base recognises: not the third, which it takes for a 9."""
        chosen = [index for index in range(count + 1) if index != 2][:count]
        return self.images[chosen], [self.classes[index] for index in chosen]


def png(pixels: Any) -> bytes:
    """A grey or RGB image as a PNG file."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    colour = 2 if pixels.ndim == 3 else 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def digits() -> Digits:
    return Digits()


@pytest.fixture(scope="session")
def folder(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve digits as PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    for index in range(12):
        (folder / f"{index:02}.png").write_bytes(png(digits.images[index]))
    return folder


@pytest.fixture
def engine() -> Iterator[collage.Engine]:
    """One that answers by its base alone, so that an answer depends on its image only."""
    with collage.Engine(device="cpu:1", policy="none", deadline=30) as engine:
        yield engine
