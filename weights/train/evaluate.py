"""Figures of trained models on a set of images: accuracy by grid, confidence, and what a backup answers.

Models are rounded to f16 first, as they are stored, and run in f32.
"""

import torch

from calibration import confidences, expected_calibration_error, precision_and_coverage
from data import canvases, shrunk

SHUFFLES = 5  # groupings that a collage is scored on
BATCH = 1000  # tiles a run


def order(images, shuffle):
    """The shuffle's grouping: that of `collage eval --seed`, Fisher and Yates over SplitMix64."""
    found, state, mask = list(range(images)), shuffle, 2**64 - 1
    for i in range(images - 1, 0, -1):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        j = ((z ^ (z >> 31)) * (i + 1)) >> 64
        found[i], found[j] = found[j], found[i]
    return torch.tensor(found)


@torch.no_grad()
def base_logits(model, data, images):
    """(N, classes), f32."""
    return torch.cat([model(data.normalised(part)).float() for part in images.split(BATCH)])


@torch.no_grad()
def collage_logits(model, data, images, tile, grid, shuffle):
    """(N, classes), f32: images grouped in the shuffle's order, the last group filled with blank tiles."""
    rows, cols = grid
    group = rows * cols
    chosen = order(len(images), shuffle).to(images.device)
    tiles = data.normalised(shrunk(images[chosen], tile))
    blank = torch.zeros(-len(tiles) % group, *tiles.shape[1:], device=tiles.device)
    tiles = torch.cat([tiles, blank])
    parts = tiles.split(max(1, BATCH // group) * group)
    canvas = lambda part: canvases(part, rows, cols).contiguous(memory_format=torch.channels_last)
    logits = torch.cat([model(canvas(part)).flatten(0, 2).float() for part in parts])
    result = torch.empty(len(images), logits.shape[-1], device=images.device)
    result[chosen] = logits[: len(images)]
    return result


@torch.no_grad()
def parity_logits(model, base, data, images, k, shuffle):
    """(N / k * k, classes) and the images' indices: each image's logits as decoded from the parity model's and the
    other k - 1 base logits."""
    chosen = order(len(images), shuffle)[: len(images) // k * k].to(images.device)
    x = data.normalised(images[chosen])
    own = base_logits(base, data, images[chosen])
    queries = x.reshape(-1, k, *x.shape[1:]).mean(1).contiguous(memory_format=torch.channels_last)
    mean = torch.cat([model(part).float() for part in queries.split(BATCH)])
    others = own.reshape(-1, k, own.shape[-1])
    others = others.sum(1, keepdim=True) - others
    return (k * mean[:, None] - others).flatten(0, 1), chosen


def figures(logits, labels, temperature=1.0, minimum=0.0):
    """Accuracy, calibration and abstention of these answers."""
    confidence, answer = confidences(logits, temperature)
    correct = answer == labels
    precision, coverage = precision_and_coverage(confidence, correct, minimum)
    return {
        "correct": int(correct.sum()),
        "answers": len(labels),
        "accuracy": correct.float().mean().item(),
        "ece": expected_calibration_error(confidence, correct),
        "precision": precision,
        "coverage": coverage,
    }


def risk_coverage(logits, labels, temperature, points=50):
    """[(coverage, risk)]: the share of wrong answers among the most confident share of all."""
    confidence, answer = confidences(logits, temperature)
    by_confidence = confidence.argsort(descending=True)
    wrong = (answer != labels)[by_confidence].float().cumsum(0)
    counts = [max(1, round(len(labels) * i / points)) for i in range(1, points + 1)]
    return [(n / len(labels), (wrong[n - 1] / n).item()) for n in counts]
