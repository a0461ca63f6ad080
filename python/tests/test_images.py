"""However an image is given, it is the same image; what is none is refused with what was given and expected."""

from __future__ import annotations

import array
import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import collage
import numpy
import pytest
from conftest import Digits, png


class Tensor:
    """A tensor that can be had by DLPack only, as those of PyTorch, and of a producer older than DLPack 1.0 if `old`."""

    def __init__(self, pixels: Any, old: bool = False) -> None:
        self.pixels = pixels
        self.old = old

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.pixels.__dlpack_device__()  # type: ignore[no-any-return]

    def __dlpack__(self, **options: Any) -> Any:
        if self.old and options:
            raise TypeError(f"unexpected {options}")
        return self.pixels.__dlpack__(**options)


#: One byte that looks like 40,000.
REPEATED = numpy.lib.stride_tricks.as_strided(numpy.zeros(1, numpy.uint8), (200, 200), (0, 0), writeable=True)


def scores(engine: collage.Engine, image: Any, **options: Any) -> list[tuple[int, float]]:
    answer = engine.submit(image, **options).result()
    return [(score.class_index, score.score) for score in answer.top]


def rgb(digits: Digits, size: int = 8) -> Any:
    """A picture whose three channels differ, and which no flip leaves as it is: (H, W, C)."""
    planes = [numpy.kron(digits.images[i], numpy.ones((size // 8, size // 8), numpy.uint8)) for i in (3, 7, 11)]
    return numpy.ascontiguousarray(numpy.stack(planes, axis=-1))


@pytest.mark.parametrize(
    "form",
    [
        lambda pixels: (png(pixels), {}),
        lambda pixels: (bytearray(png(pixels)), {}),
        lambda pixels: (memoryview(png(pixels)), {}),
        lambda pixels: (array.array("B", png(pixels)), {}),
        lambda pixels: (numpy.frombuffer(png(pixels), numpy.uint8), {}),
        lambda pixels: (numpy.ascontiguousarray(pixels.transpose(2, 0, 1)), {"layout": "chw"}),
        lambda pixels: (pixels.transpose(2, 0, 1), {"layout": "chw"}),
        lambda pixels: (numpy.asfortranarray(pixels), {}),
        lambda pixels: (numpy.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1], {}),
        lambda pixels: (numpy.repeat(numpy.repeat(pixels, 2, axis=0), 3, axis=1)[::2, ::3], {}),
        lambda pixels: (numpy.pad(pixels, ((1, 2), (3, 4), (0, 0)))[1:-2, 3:-4], {}),
        lambda pixels: (memoryview(pixels), {}),
        lambda pixels: (Tensor(pixels.copy()), {}),
        lambda pixels: (Tensor(pixels.copy(), old=True), {}),
        lambda pixels: (Tensor(pixels.transpose(2, 0, 1).copy()), {"layout": "chw"}),
        lambda pixels: ((pixels / 255).astype(numpy.float32), {}),
        lambda pixels: ((pixels / 255).astype(numpy.float16), {}),
        lambda pixels: ((pixels / 127.5 - 1).astype(numpy.float32), {"values": (-1.0, 1.0)}),
        lambda pixels: (pixels.astype(numpy.float32), {"values": (0.0, 255.0)}),
    ],
    ids=[
        "png", "bytearray", "memoryview", "array", "encoded array", "chw", "chw view", "fortran", "negative strides",
        "every second", "inner part", "memoryview of pixels", "dlpack", "old dlpack", "dlpack chw", "float32", "float16",
        "-1 to 1", "0 to 255",
    ],
)  # fmt: skip
def test_image_is_the_same_in_every_form(engine: collage.Engine, digits: Digits, form: Any) -> None:
    pixels = rgb(digits, 16)
    image, options = form(pixels)
    assert scores(engine, image, **options) == scores(engine, pixels)


def test_image_and_its_mirror_are_told_apart(engine: collage.Engine, digits: Digits) -> None:
    pixels = rgb(digits)
    assert scores(engine, pixels[:, ::-1]) != scores(engine, pixels)
    assert scores(engine, pixels[:, :, ::-1]) != scores(engine, pixels)


def test_path_is_read(engine: collage.Engine, digits: Digits, folder: Path) -> None:
    expected = scores(engine, digits.images[0])
    assert scores(engine, folder / "00.png") == expected == scores(engine, str(folder / "00.png"))
    with pytest.raises(FileNotFoundError):
        engine.submit(folder / "absent.png")


def test_grey_image_may_have_a_channel_or_none(engine: collage.Engine, digits: Digits) -> None:
    grey = digits.images[5]
    assert scores(engine, grey) == scores(engine, grey[:, :, None]) == scores(engine, grey[None], layout="chw")


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (numpy.zeros((8, 8)), TypeError, "'d'; expected uint8, float16 or float32"),
        (numpy.zeros((8, 8), ">f4"), TypeError, "'>f'"),
        (numpy.zeros((8, 8), bool), TypeError, "expected uint8"),
        (numpy.zeros(8, numpy.float32), ValueError, "1 dimensions"),
        (numpy.zeros((1, 1, 8, 8, 1), numpy.uint8), ValueError, "5 dimensions"),
        (REPEATED, ValueError, "repeats one element"),
        (numpy.zeros((8, 8, 2), numpy.uint8), collage.ImageError, "2"),
        (numpy.zeros((0, 8, 3), numpy.uint8), collage.ImageError, "0"),
        (numpy.full((8, 8), numpy.nan, numpy.float32), collage.ImageError, "(?i)nan|not a number"),
        (b"", collage.ImageError, "not a JPEG|0 bytes|empty"),
        (b"GIF89a", collage.ImageError, "not a JPEG, PNG, WebP or BMP"),
        (Tensor(numpy.zeros((8, 8))), collage.ImageError, "64"),
        (Tensor(REPEATED), collage.ImageError, "repeated"),
        (7, TypeError, "int is no image"),
        (None, TypeError, "NoneType is no image"),
        ([[1, 2], [3, 4]], TypeError, "list is no image"),
    ],
)
def test_what_is_no_image_is_refused(engine: collage.Engine, image: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        engine.submit(image)
    assert engine.stats()["submitted"] == 0


def test_options_of_an_image_are_checked(engine: collage.Engine, digits: Digits) -> None:
    image = digits.images[0]
    with pytest.raises(ValueError, match='layout=\'nhwc\'; expected "hwc" or "chw"'):
        engine.submit(image, layout="nhwc")  # type: ignore[arg-type]
    with pytest.raises(collage.CollageError):
        engine.submit(image, values=(1.0, 1.0))
    with pytest.raises(ValueError, match="zero byte"):
        engine.submit(image, name="a\0b")
    with pytest.raises(collage.ImageError, match="page 7"):
        engine.submit(b"no image", name="page 7")


def test_image_is_not_held_once_it_was_submitted(engine: collage.Engine, digits: Digits) -> None:
    pixels = digits.images[0].copy()
    before = sys.getrefcount(pixels)
    for _ in range(3):
        engine.submit(pixels).result()
        engine.submit(Tensor(pixels)).result()
        with pytest.raises(collage.CollageError):
            engine.submit(pixels, values=(1.0, 1.0))
        with pytest.raises(collage.CollageError):
            engine.submit(Tensor(pixels), values=(1.0, 1.0))
        with pytest.raises(ValueError):
            engine.submit(pixels, name="a\0b")
        with pytest.raises(ValueError):
            engine.submit(pixels, values=(1.0, "white"))  # type: ignore[arg-type]
    gc.collect()
    assert sys.getrefcount(pixels) == before
    gone = weakref.ref(pixels)
    del pixels
    assert gone() is None


def test_writing_to_an_array_after_it_was_submitted_changes_nothing(engine: collage.Engine, digits: Digits) -> None:
    pixels = digits.images[0].copy()
    expected = scores(engine, pixels)
    ticket = engine.submit(pixels)
    pixels[:] = 255
    assert [(s.class_index, s.score) for s in ticket.result().top] == expected
