"""Labelled images for LoadGen's sample library, in the forms that `collage eval --data` takes too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import collage
import numpy

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
#: A record of CIFAR-10's binary files: the class, then 32 x 32 of red, of green and of blue.
CIFAR_RECORD = 1 + 3 * 32 * 32


class Samples:
    """Images by index, with their classes. LoadGen says which of them are to be in memory."""

    def __init__(self, name: str, classes: Sequence[int], layout: collage.Layout) -> None:
        self.name = name
        self.classes = classes
        self.layout = layout
        self.loaded: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.classes)

    def read(self, index: int) -> Any:
        raise NotImplementedError

    def load(self, indices: Sequence[int]) -> None:
        self.loaded.update((index, self.read(index)) for index in indices)

    def unload(self, indices: Sequence[int]) -> None:
        for index in indices:
            self.loaded.pop(index, None)


class Arrays(Samples):
    """Images that are arrays already."""

    def __init__(self, name: str, images: Any, classes: Any, layout: collage.Layout) -> None:
        super().__init__(name, [int(c) for c in classes], layout)
        self.images = images

    def read(self, index: int) -> Any:
        return numpy.ascontiguousarray(self.images[index])


class Files(Samples):
    """Images in files: read into memory when LoadGen asks for it, decoded when they are submitted."""

    def __init__(self, name: str, paths: Sequence[Path], classes: Sequence[int]) -> None:
        super().__init__(name, classes, "hwc")
        self.paths = paths

    def read(self, index: int) -> bytes:
        return self.paths[index].read_bytes()


def digits() -> Samples:
    """The held-out digits that the library embeds, from the file that it embeds them from."""
    raw = (ROOT / "weights" / "digits.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])

    def tensor(name: str) -> Any:
        begin, end = header[name]["data_offsets"]
        return numpy.frombuffer(raw[start + begin : start + end], numpy.uint8).reshape(header[name]["shape"])

    held_out = tensor("split") == 1
    return Arrays("the embedded held-out digits", tensor("images")[held_out], tensor("labels")[held_out], "hwc")


def cifar(path: Path) -> Samples:
    """A binary file of CIFAR-10, or the folder with test_batch.bin."""
    file = path / "test_batch.bin" if path.is_dir() else path
    raw = numpy.fromfile(file, numpy.uint8)
    if len(raw) == 0 or len(raw) % CIFAR_RECORD:
        raise SystemExit(f"{file}: {len(raw)} bytes; expected records of {CIFAR_RECORD}")
    records = raw.reshape(-1, CIFAR_RECORD)
    return Arrays(str(file), records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], "chw")


def folders(path: Path, labels: Sequence[str]) -> Samples:
    """A folder of class folders, matched to the model's classes by name or, failing that, by sorted order."""
    names = sorted(p.name for p in path.iterdir() if p.is_dir())
    if all(name in labels for name in names):
        classes = {name: labels.index(name) for name in names}
    elif len(names) == len(labels):
        classes = {name: index for index, name in enumerate(names)}
    else:
        raise SystemExit(f"{path}: {len(names)} folders that are not the model's {len(labels)} classes")
    found = sorted(p for name in names for p in (path / name).iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{path}: no images in its folders")
    return Files(str(path), found, [classes[p.parent.name] for p in found])


def open_samples(data: Path | None, labels: Sequence[str]) -> Samples:
    """What `--data` names."""
    if data is None:
        return digits()
    if data.is_file() or (data / "test_batch.bin").is_file():
        return cifar(data)
    return folders(data, labels)
