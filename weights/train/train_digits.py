"""Trains the embedded default: weights/digits-{base,collage}.safetensors, their cards, and weights/digits.safetensors.

    python weights/train/train_digits.py --seed 0 --out weights/

Repeatable by --seed on one machine with the same --threads. Held-out images are scored at the end, and used for
nothing else.
`--candidates` trains each collage network of CANDIDATES instead and scores it on the validation images only.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from calibration import confidences, expected_calibration_error, precision_and_coverage, temperature, threshold
from digits_cards import write_cards
from digits_data import ATTRIBUTION, LICENCE, VALIDATION
from digits_data import augmented, grouped_logits, load, normalised, resized, stratified
from digits_train import base_loss, collage_loss, train
from export import as_stored, write_model
from models import ResNet, macs, resnet, total_stride

SIDE, TILE = 16, 6  # base input (8x8 enlarged) and tile (8x8 shrunk)
BASE = resnet(32, [(1, 32, 1), (1, 64, 2), (1, 96, 2)])
COLLAGE = resnet(32, [(1, 32, 1), (1, 64, 3)])
CANDIDATES = {
    "stride 2": resnet(32, [(1, 32, 1), (1, 64, 2)]),
    "stride 3": COLLAGE,
    "stride 3, a block more": resnet(32, [(1, 32, 1), (2, 64, 3)]),
    "stride 6": resnet(32, [(1, 32, 1), (1, 64, 2), (1, 128, 3)]),
}
GRIDS = [(r, c) for r in range(1, 6) for c in range(1, 6)]
SQUARES = [(g, g) for g in range(1, 6)]
SHUFFLES = 20  # groupings that a collage is scored on
COPIES, BENT = 19, 0.8  # of each validation image, beside itself, and the share of training's augmentation in them
PRECISION = 0.998  # that min_confidence is chosen for
CLASSES = [str(d) for d in range(10)]


class Fold:
    """A set of images as base inputs and as tiles."""

    def __init__(self, images, labels, mean, std):
        self.labels = torch.from_numpy(labels).long()
        self.base = normalised(resized(images, SIDE), mean, std)
        self.tiles = normalised(resized(images, TILE), mean, std)

    def base_logits(self, model):
        with torch.no_grad():
            return model(self.base)

    def collage_logits(self, model, grid, shuffles=SHUFFLES):
        """(shuffles, images, classes), shuffle i seeded by i."""
        orders = [torch.from_numpy(np.random.default_rng(i).permutation(len(self.labels))) for i in range(shuffles)]
        return torch.stack([grouped_logits(model, self.tiles, *grid, order) for order in orders])


def new_collage(architecture, seed):
    torch.manual_seed(seed)
    return ResNet(architecture, len(CLASSES), TILE // total_stride(architecture))


def bent(images, labels, mean, std):
    """The validation images and COPIES of each, bent a little less than in training.

    The 200 alone are too easy to choose or calibrate by: networks get all of them, or all but one or two, and the best
    temperature for images without an error is 0.
    """
    copies = [images] + [augmented(images, np.random.default_rng(100 + i), BENT) for i in range(COPIES)]
    return Fold(np.concatenate(copies), np.tile(labels, COPIES + 1), mean, std)


def calibrate(logits, labels):
    """(temperature, min_confidence) for these answers."""
    t = temperature(logits, labels)
    confidence, answer = confidences(logits, t)
    return t, threshold(confidence, answer == labels, PRECISION)


def measure(logits, labels, t, minimum):
    """Everything a card says of one model on one set of answers; counts are of `logits`' rows."""
    confidence, answer = confidences(logits, t)
    correct = answer == labels
    precision, coverage = precision_and_coverage(confidence, correct, minimum)
    return {
        "correct": correct.sum().item(),
        "answers": len(labels),
        "accuracy": correct.float().mean().item(),
        "ece": expected_calibration_error(confidence, correct),
        "precision": precision,
        "coverage": coverage,
    }


def measure_grid(fold, model, grid, t, minimum, base_answers):
    """`measure` over all shuffles of one grid, with the least and most correct of a shuffle."""
    logits = fold.collage_logits(model, grid)
    correct = (logits.argmax(-1) == fold.labels).sum(1)
    result = measure(logits.flatten(0, 1), fold.labels.repeat(SHUFFLES), t, minimum)
    result.update(least=correct.min().item(), most=correct.max().item(), images=len(fold.labels))
    result["agreement"] = (logits.argmax(-1) == base_answers).float().mean().item()
    return result


def train_base(images, labels, mean, std, args):
    torch.manual_seed(args.seed)
    loss = base_loss(SIDE, mean, std)
    return train("base", ResNet(BASE, len(CLASSES)), images, labels, loss, args.base_epochs, 3e-3, args.seed)


def train_collage(name, architecture, base, images, labels, mean, std, args):
    loss = collage_loss(base, SIDE, TILE, mean, std, GRIDS)
    return train(name, new_collage(architecture, args.seed), images, labels, loss, args.collage_epochs, 4e-3, args.seed)


def compare_candidates(base, images, labels, fit, val, mean, std, args):
    """Prints each candidate's accuracy and cross-entropy on the validation images and their bent copies."""
    fold = bent(images[val], labels[val], mean, std)
    print(f"| network | kMAC a tile |{''.join(f' {r}x{c} |' for r, c in SQUARES)}")
    print("|---|---|" + "---|" * len(SQUARES))
    for name, architecture in CANDIDATES.items():
        model = train_collage(name, architecture, base, images[fit], labels[fit], mean, std, args)
        row = f"| {name} | {macs(model, TILE) / 1e3:.0f} |"
        for grid in SQUARES:
            logits = fold.collage_logits(model, grid, 1)[0]
            right = (logits.argmax(-1) == fold.labels).float().mean()
            row += f" {right:.4f} ({F.cross_entropy(logits, fold.labels):.3f}) |"
        print(row, flush=True)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def describe(kind, architecture, size, mean, std, t, minimum, accuracy):
    """The metadata of one file, but for what the exporter adds."""
    collage = {"stride": total_stride(architecture), "grids": [f"{r}x{c}" for r, c in GRIDS]}
    return {
        "name": f"digits-{kind}",
        "kind": kind,
        "architecture": architecture,
        "preprocessing": {"resize": size, "size": size, "filter": "bilinear", "mean": [mean] * 3, "std": [std] * 3},
        "classes": CLASSES,
        **({"collage": collage} if kind == "collage" else {}),
        "temperature": t,
        **({"min_confidence": minimum} if kind == "collage" else {}),
        "source": "trained by weights/train/train_digits.py on " + ATTRIBUTION,
        "licence": LICENCE,
        "accuracy": accuracy,
    }


def write_digits(path, images, labels, split):
    """The image set that ships; values are 0..255."""
    tensors = {"images": images, "labels": labels, "split": split}
    metadata = {
        "name": "digits",
        "licence": LICENCE,
        "attribution": ATTRIBUTION,
        "split": "0 train (1,200), 1 held out (597); stratified by class, by image and not by writer",
    }
    save_file({k: torch.from_numpy(v) for k, v in tensors.items()}, path, metadata=metadata)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--base-epochs", type=int, default=80)
    parser.add_argument("--collage-epochs", type=int, default=200)
    parser.add_argument("--candidates", action="store_true", help="compare collage networks on the validation fold")
    return parser.parse_args()


def main():
    args, started = parse(), time.time()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    images, labels, split = load()
    training = np.flatnonzero(split == 0)
    validation = stratified(labels[training], VALIDATION, args.seed + 1)
    fit, val = training[~validation], training[validation]
    mean, std = (round(float(f(images[fit] / 255)), 4) for f in (np.mean, np.std))

    base = as_stored(train_base(images[fit], labels[fit], mean, std, args))
    if args.candidates:
        return compare_candidates(base, images, labels, fit, val, mean, std, args)
    base_seconds = time.time() - started
    collage = as_stored(train_collage("collage", COLLAGE, base, images[fit], labels[fit], mean, std, args))
    collage_seconds = time.time() - started - base_seconds

    chosen = bent(images[val], labels[val], mean, std)
    base_t, _ = calibrate(chosen.base_logits(base), chosen.labels)
    mixed = torch.cat([chosen.collage_logits(collage, g, 1)[0] for g in GRIDS])
    t, minimum = calibrate(mixed, chosen.labels.repeat(len(GRIDS)))

    held_out = Fold(images[split == 1], labels[split == 1], mean, std)
    logits = held_out.base_logits(base)
    base_result = measure(logits, held_out.labels, base_t, 0.0)
    grids = {f"{r}x{c}": measure_grid(held_out, collage, (r, c), t, minimum, logits.argmax(-1)) for r, c in GRIDS}

    args.out.mkdir(parents=True, exist_ok=True)
    write_digits(args.out / "digits.safetensors", images, labels, split)
    accuracy = {"base": round(base_result["accuracy"], 4)}
    about_base = describe("base", BASE, SIDE, mean, std, base_t, None, accuracy)
    accuracy = accuracy | {g: round(r["accuracy"], 4) for g, r in grids.items()}
    about_collage = describe("collage", COLLAGE, TILE, mean, std, t, minimum, accuracy)
    files = {
        kind: write_model(args.out / f"digits-{kind}.safetensors", model, about)
        for kind, model, about in (("base", base, about_base), ("collage", collage, about_collage))
    }
    for kind, model in (("base", base), ("collage", collage)):
        stored = load_file(args.out / f"digits-{kind}.safetensors")
        assert all(torch.equal(stored[k].float(), v) for k, v in model.state_dict().items() if k in stored)
    write_cards(
        args.out,
        {
            "seed": args.seed,
            "threads": args.threads,
            "device": f"CPU, {os.cpu_count()} logical cores ({platform.machine()}), torch {torch.__version__}",
            "fit": len(fit),
            "validation": len(val),
            "held_out": len(held_out.labels),
            "shuffles": SHUFFLES,
            "precision": PRECISION,
            "copies": COPIES,
            "bent": BENT,
            "attribution": ATTRIBUTION,
            "side": SIDE,
            "tile": TILE,
            "bytes": files,
            "epochs": {"base": args.base_epochs, "collage": args.collage_epochs},
            "seconds": {"base": base_seconds, "collage": collage_seconds},
            "macs": {"base": macs(base, SIDE), "collage": macs(collage, TILE)},
            "parameters": {"base": parameters(base), "collage": parameters(collage)},
            "about": {"base": about_base, "collage": about_collage},
            "base": base_result,
            "grids": grids,
        },
    )


if __name__ == "__main__":
    main()
