"""Trained models on validation and test images: with `cards.py` and `comparison.py`, all that reads CIFAR-10's test images."""

import argparse
from pathlib import Path

import torch

import cifar
import evaluate
from calibration import confidences, temperature, threshold
from data import Data
from train import loaded

PRECISION = 0.97  # that the least confidence is chosen for
SQUARES = [(g, g) for g in range(1, 6)]
GENERATED = "<!-- Written by weights/train/{}: change the script, not this file. -->\n\n"
DATA = (
    "CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): 45,000 of the 50,000 "
    "training images to fit on, the other 5,000 (500 a class) to choose and calibrate by; scored at the end on {} of the 10,000 test images "
    "that were used for nothing else.\n"
)


def name_of(grid):
    """Of a grid, as files and cards have it."""
    return f"{grid[0]}x{grid[1]}"


def parse(description):
    """The options that both have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="gpu")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder that train.py wrote into")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


class Judge:
    """What the networks of `--set` are worth beside the base of a round."""

    def __init__(self, args, of_round):
        self.args, self.device = args, torch.device(args.device)
        self.data = Data(args.data, self.device)
        images, labels = cifar.test_images(args.data)
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.base, self.about = loaded(args.runs, "base", args.set, of_round, self.device)
        self.base_figures, self.base_temperature = self.judge_base()

    def judge_base(self):
        logits = evaluate.base_logits(self.base, self.data, self.data.validation_images)
        t = temperature(logits, self.data.validation_labels)
        return evaluate.figures(evaluate.base_logits(self.base, self.data, self.images), self.labels, t), t

    def calibrated(self, model, tile, grids):
        """(temperature, least confidence) for all of these grids together, on the validation images."""
        images, labels = self.data.validation_images, self.data.validation_labels
        logits = torch.cat([evaluate.collage_logits(model, self.data, images, tile, g, 0) for g in grids])
        truth = labels.repeat(len(grids))
        t = temperature(logits, truth)
        confidence, answer = confidences(logits, t)
        return t, threshold(confidence, answer == truth, PRECISION)

    def grid(self, model, tile, grid, t=1.0, minimum=0.0):
        """Means over shuffles, of which a grid that is not square has but one, of what each gives; and all logits."""
        shuffles = evaluate.SHUFFLES if grid in SQUARES[1:] else 1
        each = [evaluate.collage_logits(model, self.data, self.images, tile, grid, s) for s in range(shuffles)]
        found = [evaluate.figures(logits, self.labels, t, minimum) for logits in each]
        right = [f["correct"] for f in found]
        mean = {key: sum(f[key] for f in found) / shuffles for key in found[0]}
        return {**mean, "least": min(right), "most": max(right)}, (torch.cat(each), self.labels.repeat(shuffles))

    def drop(self, accuracy):
        """Points below the base."""
        return 100 * (self.base_figures["accuracy"] - accuracy)
