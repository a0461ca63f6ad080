"""CIFAR-10 from its official binary files, and the split that everything here keeps to.

Test images are read by `test_images` alone, which only the scripts that write the cards call, after all is trained and
chosen. What is chosen, calibrated or stopped by, is a validation set carved from the training images.
"""

from pathlib import Path

import numpy as np
import torch

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE = 32
VALIDATION = 5_000  # of the training images, 500 a class
SPLIT_SEED = 1  # the same for every run, so that a teacher has not seen what its student is chosen by
RECORD = 1 + 3 * SIDE * SIDE  # a label, then planes of red, green and blue


def read(path):
    """(u8 images (N, 3, 32, 32), labels (N,)) of one file."""
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % RECORD:
        raise SystemExit(f"{path}: {raw.size} bytes; expected a multiple of {RECORD}, one record an image")
    records = raw.reshape(-1, RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise SystemExit(f"{path}: label {records[:, 0].max()}; expected 0 to {len(CLASSES) - 1}")
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, SIDE, SIDE).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def training_images(folder):
    """The files data_batch_1.bin to data_batch_5.bin, in this order."""
    parts = [read(Path(folder) / f"data_batch_{i}.bin") for i in range(1, 6)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def test_images(folder):
    """The file test_batch.bin."""
    return read(Path(folder) / "test_batch.bin")


def split(labels):
    """(indices to fit on, indices to validate on), stratified."""
    rng = np.random.default_rng(SPLIT_SEED)
    held = np.zeros(len(labels), bool)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(labels.numpy() == label)
        held[rng.permutation(members)[: VALIDATION // len(CLASSES)]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def statistics(images):
    """Mean and standard deviation of each channel, of values 0..1, to four digits."""
    x = images.float().div_(255)
    return [round(v, 4) for v in x.mean((0, 2, 3)).tolist()], [round(v, 4) for v in x.std((0, 2, 3)).tolist()]
