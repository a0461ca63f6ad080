"""The digits: their split, Pillow's preprocessing, augmentation of the 8x8 source, and canvases of tiles.

The images are the UCI "Optical Recognition of Handwritten Digits" that scikit-learn carries: 1,797 of 8x8 pixels.
Every pixel a network sees went through Pillow's 8-bit resize, which is the arithmetic the engine reproduces.
"""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F

from data import canvases

SPLIT_SEED = 0  # of the split that is shipped; --seed never changes which images are held out
HELD_OUT = 597
VALIDATION = 200  # carved from the 1,200 training images: choosing, calibration, threshold
LICENCE = "CC-BY-4.0"
ATTRIBUTION = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
    "https://doi.org/10.24432/C50P49; the 1,797 images carried by scikit-learn, values 0..16 scaled to 0..255"
)


def stratified(labels, count, seed):
    """True for `count` images, each class in proportion (largest remainders first)."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    exact = np.array([(labels == c).sum() * count / len(labels) for c in classes])
    take = np.floor(exact).astype(int)
    for i in np.argsort(take - exact, kind="stable")[: count - take.sum()]:
        take[i] += 1
    chosen = np.zeros(len(labels), bool)
    for c, n in zip(classes, take):
        chosen[rng.permutation(np.flatnonzero(labels == c))[:n]] = True
    return chosen


def load():
    """images u8 (1797, 8, 8), labels u8 (1797), split u8 (1797): 0 train, 1 held out."""
    digits = load_digits()
    images = np.floor(digits.images * 255 / 16 + 0.5).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    return images, labels, stratified(labels, HELD_OUT, SPLIT_SEED).astype(np.uint8)


def resized(images, side):
    """Pillow's bilinear resize of u8 (N, H, W) to (N, side, side); antialiased when it shrinks."""
    if images.shape[1:] == (side, side):
        return images
    return np.stack([np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR)) for i in images])


def normalised(images, mean, std):
    """u8 (N, H, W) to float (N, 3, H, W) of three equal channels."""
    x = (torch.from_numpy(np.ascontiguousarray(images)).float() / 255 - mean) / std
    return x[:, None].expand(-1, 3, -1, -1)


def augmented(images, rng, strength=1.0):
    """Randomly shifted, rotated, scaled, sheared and bent copies of u8 (N, 8, 8).

    Warped at 32x32, the size of the bitmaps that the 8x8 block counts came from, then averaged back over 4x4 blocks,
    so that warping does not blur.
    """
    n = len(images)
    x = torch.from_numpy(images).float()[:, None]
    x = F.interpolate(x, size=(32, 32), mode="bicubic", align_corners=False).clamp(0, 255)

    def uniform(limit, *shape):
        return torch.from_numpy(rng.uniform(-limit, limit, (n, *shape)) * strength).float()

    angle, shear = uniform(0.22), uniform(0.15)
    sx, sy = torch.exp(uniform(0.14)), torch.exp(uniform(0.14))
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * sx, (-sin + shear) * sy, uniform(0.20)], 1),
            torch.stack([sin * sx, cos * sy, uniform(0.20)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, (n, 1, 32, 32), align_corners=False)
    bend = F.interpolate(uniform(0.12, 2, 4, 4), size=(32, 32), mode="bicubic", align_corners=False)
    x = F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    x = F.avg_pool2d(x, 4)
    gain = torch.exp(uniform(0.12, 1, 1, 1))
    return (x * gain).clamp(0, 255).round()[:, 0].to(torch.uint8).numpy()


def grouped_logits(model, tiles, rows, cols, order):
    """The collage's logits for every tile, images grouped in `order`, the last group filled with blank tiles."""
    group = rows * cols
    blank = torch.zeros(-len(tiles) % group, *tiles.shape[1:])
    with torch.no_grad():
        logits = model(canvases(torch.cat([tiles[order], blank]), rows, cols))
    result = torch.empty(len(tiles), logits.shape[-1])
    result[order] = logits.reshape(-1, logits.shape[-1])[: len(tiles)]
    return result
