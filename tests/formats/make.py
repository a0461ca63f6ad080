#!/usr/bin/env python3
"""Makes the small files of tests/formats, one a variant of a format, and what Pillow reads from them.

tests/images.rs decodes the files and compares. Pixels are hash-made, so nobody's photograph is in here.
    python tests/formats/make.py        (needs pillow, numpy, safetensors; written with Pillow 13.0)
"""
import pathlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 19, 13  # odd, so that chroma subsampling and 1-bit rows end in the middle of a block


def hashed(channels, seed):
    """Smooth with a little noise, so that a lossy format stays close."""
    i = np.arange(HEIGHT * WIDTH * channels, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    i ^= i >> 15
    noise = ((i * np.uint32(2246822519)) >> 28).reshape(HEIGHT, WIDTH, channels)
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(channels), indexing="ij")
    return (x * 9 + y * 4 + c * 20 + noise).astype(np.uint8)


def variants():
    """(file, image, options of save)"""
    rgb, rgba = Image.fromarray(hashed(3, 1)), Image.fromarray(hashed(4, 2))
    grey = Image.fromarray(hashed(1, 3)[:, :, 0])
    palette = rgb.quantize(23)
    yield "grey.png", grey, {}
    yield "grey_alpha.png", Image.merge("LA", (grey, rgb.getchannel(1))), {}
    yield "grey_16.png", Image.fromarray(hashed(1, 4)[:, :, 0].astype(np.uint16) * 251 + 77), {}
    yield "one_bit.png", grey.convert("1"), {}
    yield "rgba.png", rgba, {}
    yield "palette.png", palette, {}
    yield "palette_alpha.png", palette, {"transparency": 3}
    yield "rgb_transparent.png", rgb, {"transparency": rgb.getpixel((2, 2))}
    yield "rgb.bmp", rgb, {}
    yield "grey.bmp", grey, {}
    yield "palette.bmp", palette, {}
    yield "one_bit.bmp", grey.convert("1"), {}
    yield "lossless.webp", rgb, {"lossless": True}
    yield "lossless_alpha.webp", rgba, {"lossless": True, "exact": True}
    yield "lossy.webp", rgb, {"quality": 90}
    yield "full_chroma.jpg", rgb, {"quality": 95, "subsampling": 0}
    yield "half_chroma.jpg", rgb, {"quality": 90, "subsampling": 2}
    yield "progressive.jpg", rgb, {"quality": 90, "progressive": True}
    yield "grey.jpg", grey, {"quality": 90}
    yield "cmyk.jpg", rgb.convert("CMYK"), {"quality": 95}
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation_{orientation}.jpg", rgb, {"quality": 95, "subsampling": 0, "exif": exif}
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "orientation_6.png", rgb, {"exif": exif}
    yield "orientation_6.webp", rgb, {"exif": exif, "lossless": True}


def main():
    expected = {}
    for name, image, options in variants():
        image.save(HERE / name, **options)
        read = ImageOps.exif_transpose(Image.open(HERE / name))
        if read.mode == "I;16":  # convert("RGB") clips all above 255 to white, which nobody wants
            read = Image.fromarray((np.asarray(read) >> 8).astype(np.uint8))
        expected[name] = np.asarray(read.convert("RGB"))
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
