"""Exports trained models to weights/ and writes their cards: the only script here that reads the test images.

    python weights/train/cards.py --set gpu --data cifar-10-batches-bin --runs runs --out weights

Temperature and least confidence are chosen on the validation images; what is rounded to f16 and stored is what is
scored. Rivals that were trained stand in the collage's card; those that were not are said to be missing.
"""

import argparse
from pathlib import Path

import torch

import cifar
import evaluate
from calibration import confidences, temperature, threshold
from data import Data
from export import write_model
from models import total_stride
from networks import GRIDS
from plot import risk_coverage_plot
from train import RIVALS, loaded

PRECISION = 0.97  # that the least confidence is chosen for
SQUARES = [(g, g) for g in range(1, 6)]
GENERATED = "<!-- Written by weights/train/cards.py: change the script, not this file. -->\n\n"
DATA = (
    "CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): 45,000 of the 50,000 "
    "training images to fit on, the other 5,000 (500 a class) to choose, calibrate and stop by; "
)


def name_of(grid):
    return f"{grid[0]}x{grid[1]}"


def describe(name, kind, kept, t, minimum, accuracy):
    """The metadata of a file, but for what the exporter adds."""
    network, tile = kept["network"], kept["network"]["tile"] if kind == "collage" else cifar.SIDE
    stride = total_stride(network["architecture"])
    return {
        "name": name,
        "kind": kind,
        "architecture": network["architecture"],
        "preprocessing": {"resize": tile, "size": tile, "filter": "bilinear", "mean": kept["mean"], "std": kept["std"]},
        "classes": cifar.CLASSES,
        **({"collage": {"stride": stride, "grids": [name_of(g) for g in GRIDS]}} if kind == "collage" else {}),
        "temperature": t,
        **({"min_confidence": minimum} if kind == "collage" else {}),
        "source": "trained by weights/train on CIFAR-10",
        "licence": "MIT OR Apache-2.0; the images of CIFAR-10 have no stated licence",
        "accuracy": accuracy,
    }


def made(kept, set_name):
    """How it was trained, for its card."""
    recipe = kept["network"]["recipe"]
    return (
        f"- **Made by** weights/train, set `{set_name}`, seed {kept['seed']}: {recipe['epochs']} epochs of batches of "
        f"{recipe['batch']}, {kept['seconds']:.0f} s on {kept['device']}, torch {kept['torch']}, bf16 products.\n"
        f"- **Network**: {kept['parameters']:,} parameters, {kept['mmacs']:.1f} million multiply-accumulates an image; "
        "stored as f16, and so measured below.\n"
    )


class Judge:
    """Models on validation and test images."""

    def __init__(self, args):
        self.args, self.device = args, torch.device(args.device)
        self.data = Data(args.data, self.device)
        images, labels = cifar.test_images(args.data)
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.base, self.about = loaded(args.runs, "base", args.set, self.device)
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

    def grid(self, model, tile, grid, t, minimum):
        """Figures over all shuffles, and the pooled logits."""
        shuffles = 1 if grid == (1, 1) else evaluate.SHUFFLES
        each = [evaluate.collage_logits(model, self.data, self.images, tile, grid, s) for s in range(shuffles)]
        right = [int((logits.argmax(1) == self.labels).sum()) for logits in each]
        logits, labels = torch.cat(each), self.labels.repeat(shuffles)
        found = evaluate.figures(logits, labels, t, minimum)
        return {**found, "least": min(right), "most": max(right), "mean": sum(right) / shuffles}, (logits, labels)

    def drop(self, accuracy):
        """Points below the base."""
        return 100 * (self.base_figures["accuracy"] - accuracy)


def base_card(judge, size):
    f, t = judge.base_figures, judge.base_temperature
    return (
        f"{GENERATED}# cifar10-base\n\nClassifies one 32x32 photograph into the ten classes of CIFAR-10.\n\n"
        f"{made(judge.about, judge.args.set)}"
        f"- **Data**: {DATA}scored once on {f['answers']:,} test images that were used for nothing else.\n"
        f"- **Accuracy**: {f['correct']:,} of {f['answers']:,}, {f['accuracy']:.4f}; {size:,} bytes.\n"
        f"- **Confidence**: temperature {t}; expected calibration error {f['ece']:.4f} (15 bins).\n"
    )


def collage_card(judge, what, kept, size, t, minimum, rows, rivals):
    f = judge.base_figures
    ratio = judge.about["mmacs"] / kept["mmacs"]
    text = (
        f"{GENERATED}# cifar10-collage-{what}\n\nClassifies every tile of an r x c collage of CIFAR-10 photographs in one "
        f"shot, 1x1 to 5x5 from one file. A tile costs 1/{ratio:.1f} of a base run; {size:,} bytes.\n\n"
        f"{made(kept, judge.args.set)}"
        f"- **Data**: {DATA}scored once on {f['answers']:,} test images.\n"
        "- **Training**: all grids together, some tiles blank; distilled from the base on the same pixels.\n"
        f"- **Confidence**: temperature {t}, `min_confidence` {minimum}: the least at which validation images are answered "
        f"with a precision of {PRECISION}, all grids together. [Risk against coverage](cifar10-collage-{what}.svg).\n\n"
        f"Over {evaluate.SHUFFLES} seeded shuffles into groups, the last group partial. The base: {f['accuracy']:.4f}; *drop* "
        "in points against it; *precision* and *coverage* at `min_confidence`.\n\n"
        "| grid | mean correct | least | most | accuracy | drop | ECE | precision | coverage |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    for grid, r in rows.items():
        text += (
            f"| {name_of(grid)} | {r['mean']:.1f} | {r['least']} | {r['most']} | {r['accuracy']:.4f} | "
            f"{judge.drop(r['accuracy']):.2f} | {r['ece']:.4f} | {r['precision']:.4f} | {r['coverage']:.4f} |\n"
        )
    return text + rivals


def rivals_table(judge, networks):
    """What other backups answer, with what they cost: none of their weights are kept here."""
    base_mmacs = judge.about["mmacs"]
    text = (
        "\n## Beside other backups\n\nAll trained by the same scripts from the same base, and scored on the same images. *Extra "
        "work* is multiply-accumulates of the backup over those of the base, an image.\n\n"
        "| backup | accuracy when it answers | drop | extra work | bytes (f16) |\n|---|---|---|---|---|\n"
    )

    def row(label, accuracy, work, parameters):
        return f"| {label} | {accuracy:.4f} | {judge.drop(accuracy):.2f} | {100 * work:.1f}% | {2 * parameters:,} |\n"

    for what, (kept, rows) in networks.items():
        for grid in SQUARES:
            label = f"collage, {what}, {name_of(grid)}"
            text += row(label, rows[grid]["accuracy"], kept["mmacs"] / base_mmacs, kept["parameters"])
        text += row(f"{what}, mixing cut at tile borders, any grid", rows[(1, 1)]["accuracy"], kept["mmacs"] / base_mmacs,
                    kept["parameters"])
    for what, label in RIVALS.items():
        if not (judge.args.runs / f"{what}-{judge.args.set}.pt").exists():
            text += f"| {label} | not trained | | | |\n"
            continue
        model, kept = loaded(judge.args.runs, what, judge.args.set, judge.device)
        if what.startswith("rival-parity"):
            k = int(what[-1])
            logits, order = evaluate.parity_logits(model, judge.base, judge.data, judge.images, k, 0)
            work = kept["mmacs"] / base_mmacs / k
        else:
            logits = evaluate.collage_logits(model, judge.data, judge.images, kept["network"]["tile"], (1, 1), 0)
            order, work = torch.arange(len(judge.labels)), kept["mmacs"] / base_mmacs
        accuracy = (logits.argmax(1) == judge.labels[order.to(judge.device)]).float().mean().item()
        text += row(label, accuracy, work, kept["parameters"])
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="gpu")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder that train.py wrote into")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    judge = Judge(args)
    accuracy = {"base": round(judge.base_figures["accuracy"], 4)}
    about = describe("cifar10-base", "base", judge.about, judge.base_temperature, None, accuracy)
    size = write_model(args.out / "cifar10-base.safetensors", judge.base, about)
    (args.out / "cifar10-base.md").write_text(base_card(judge, size))
    trained = {}
    for what in ("standard", "small"):
        model, kept = loaded(args.runs, what, args.set, judge.device)
        tile = kept["network"]["tile"]
        t, minimum = judge.calibrated(model, tile, SQUARES)
        rows, curves = {}, {}
        for grid in GRIDS:
            rows[grid], (logits, labels) = judge.grid(model, tile, grid, t, minimum)
            if grid in SQUARES:
                curves[name_of(grid)] = evaluate.risk_coverage(logits, labels, t)
        trained[what] = (model, kept, t, minimum, rows)
        (args.out / f"cifar10-collage-{what}.svg").write_text(risk_coverage_plot(curves))
    rivals = rivals_table(judge, {what: (kept, rows) for what, (_, kept, _, _, rows) in trained.items()})
    for what, (model, kept, t, minimum, rows) in trained.items():
        found = accuracy | {name_of(g): round(r["accuracy"], 4) for g, r in rows.items()}
        about = describe(f"cifar10-collage-{what}", "collage", kept, t, minimum, found)
        size = write_model(args.out / f"cifar10-collage-{what}.safetensors", model, about)
        card = collage_card(judge, what, kept, size, t, minimum, rows, rivals if what == "standard" else "")
        (args.out / f"cifar10-collage-{what}.md").write_text(card)
        print(card)


if __name__ == "__main__":
    main()
