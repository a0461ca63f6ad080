"""The training loop of the digits models: AdamW, one-cycle rate, averaged weights, BatchNorm frozen at the end."""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from data import canvases
from digits_data import augmented, normalised, resized
from loop import Average
from optimizers import decay_groups

BATCH = 120  # tiles a step
AVERAGE = 0.995  # decay of the averaged weights, a step
FROZEN = 0.25  # share of the steps, at the end, in which BatchNorm uses its running statistics


def progress(name, epoch, epochs, loss, started):
    """One line on a terminal, nothing when piped but the last."""
    spent = time.time() - started
    left = spent / epoch * (epochs - epoch)
    line = f"{name}: epoch {epoch}/{epochs}  loss {loss:.4f}  {spent:.0f} s, {left:.0f} s left"
    if sys.stderr.isatty():
        print(f"\r{line}\x1b[K", end="\n" if epoch == epochs else "", file=sys.stderr, flush=True)
    elif epoch == epochs or epoch % 50 == 0:
        print(line, file=sys.stderr, flush=True)


def train(name, model, images, labels, loss_of, epochs, rate, seed):
    """Trains on augmented copies of `images`; `loss_of(model, images, labels, rng)` is one step's loss.

    Returns the averaged model, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(labels).long()
    steps = -(-len(images) // BATCH) * epochs
    optimizer = torch.optim.AdamW(decay_groups(list(model.parameters()), 0.05), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    average, step, started = Average(model, AVERAGE), 0, time.time()
    model.train()
    for epoch in range(1, epochs + 1):
        seen = augmented(images, rng)
        order, total = rng.permutation(len(images)), 0.0
        for i in range(0, len(order), BATCH):
            chosen = order[i : i + BATCH]
            if step >= steps * (1 - FROZEN):
                for module in model.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
            loss = loss_of(model, seen[chosen], labels[chosen], rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            average.update(model, step)
            total += loss.item() * len(chosen)
        progress(name, epoch, epochs, total / len(order), started)
    return average.model


def base_loss(side, mean, std):
    """Cross-entropy of the base on whole images."""

    def loss(model, images, labels, rng):
        return F.cross_entropy(model(normalised(resized(images, side), mean, std)), labels, label_smoothing=0.05)

    return loss


def collage_loss(base, side, tile, mean, std, grids):
    """Distillation from `base` plus a little cross-entropy, on canvases of a random grid, some tiles blank.

    The base sees the same augmented 8x8 images, each at its own input size; blank tiles have no loss.
    """

    def loss(model, images, labels, rng):
        with torch.no_grad():
            target = F.softmax(base(normalised(resized(images, side), mean, std)), -1)
        target = 0.7 * target + 0.3 * F.one_hot(labels, target.shape[-1])
        rows, cols = grids[rng.integers(len(grids))]
        filled = filled_tiles(len(images), rows * cols, rng)
        tiles = torch.zeros(len(filled), 3, tile, tile)
        tiles[filled] = normalised(resized(images, tile), mean, std)
        logits = model(canvases(tiles, rows, cols)).flatten(0, 2)[filled]
        return F.cross_entropy(logits, target)

    return loss


def filled_tiles(images, group, rng):
    """Which tiles hold the `images`, in order: all but the last group's rest, or about a fifth blank anywhere."""
    total = -(-images // group) * group
    if rng.random() < 0.5:
        return torch.arange(total) < images
    total = -(-int(images * 1.25) // group) * group
    filled = np.zeros(total, bool)
    filled[rng.permutation(total)[:images]] = True
    return torch.from_numpy(filled)
