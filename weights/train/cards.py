"""Exports trained models to weights/ and writes their cards: the only script here that reads CIFAR-10's test images.

    python weights/train/cards.py --set gpu --data cifar-10-batches-bin --runs runs --out weights

Temperature and least confidence are chosen on the validation images; what is rounded to f16 and stored is what is
scored. Rivals and shrunk tiles stand in the card of `standard`; rivals that were not trained are said to be missing.
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
from teaching import views_path
from train import RIVALS, SHRUNK, loaded

PRECISION = 0.97  # that the least confidence is chosen for
SQUARES = [(g, g) for g in range(1, 6)]
GENERATED = "<!-- Written by weights/train/cards.py: change the script, not this file. -->\n\n"
DATA = (
    "CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): 45,000 of the 50,000 "
    "training images to fit on, the other 5,000 (500 a class) to choose and calibrate by; scored at the end on {} of the 10,000 test images "
    "that were used for nothing else.\n"
)
LICENCE = "MIT OR Apache-2.0; the images of CIFAR-10 have no stated licence"
CPU = (
    "- **Set `cpu`**: what two CPU cores train within a few hours, below the accuracy that the set `gpu` of the same scripts is "
    "made for. That set (weights/train/networks.py) has not been run: there is no figure of it.\n"
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
        "licence": LICENCE,
        "accuracy": accuracy,
    }


def made(judge, kept):
    """How it was trained, for its card."""
    recipe = kept["network"]["recipe"]
    moved, taught = "Muon and SGD" if recipe["turn"] else "SGD", ""
    if recipe.get("views"):
        path = views_path(recipe["shift"], recipe["views"], judge.base, kept["seed"], judge.args.runs)
        seconds = torch.load(path, weights_only=True)["seconds"]
        taught = f" The base labelled {recipe['views']} copies of each image beforehand, once for all students, in {seconds:.0f} s."
    return (
        f"- **Made by** weights/train, set `{judge.args.set}`, seed {kept['seed']}: {recipe['epochs']} epochs of batches of "
        f"{recipe['batch']} by {moved}, {kept['seconds']:.0f} s on {kept['device']}, shared with other work; "
        f"torch {kept['torch']}, bf16 products.{taught}\n"
        f"{CPU if judge.args.set == 'cpu' else ''}"
        f"- **Network**: {kept['parameters']:,} parameters, {kept['mmacs']:.1f} million multiply-accumulates an image; "
        "stored as f16, and so measured below.\n"
        f"- **Data**: {DATA.format(f'{len(judge.labels):,}')}"
        f"- **Licence**: {LICENCE}.\n"
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


def base_card(judge, size):
    f, t = judge.base_figures, judge.base_temperature
    return (
        f"{GENERATED}# cifar10-base\n\nClassifies one 32x32 photograph into the ten classes of CIFAR-10.\n\n"
        f"{made(judge, judge.about)}"
        f"- **Accuracy**: {f['correct']:,} of {f['answers']:,}, {f['accuracy']:.4f}; {size:,} bytes.\n"
        f"- **Confidence**: temperature {t}; expected calibration error {f['ece']:.4f} (15 bins).\n"
    )


def collage_card(judge, what, kept, size, t, minimum, rows):
    ratio = judge.about["mmacs"] / kept["mmacs"]
    text = (
        f"{GENERATED}# cifar10-collage-{what}\n\nClassifies every tile of an r x c collage of CIFAR-10 photographs in one "
        f"shot, 1x1 to 5x5 from one file. A tile costs 1/{ratio:.1f} of a base run; {size:,} bytes.\n\n"
        f"{made(judge, kept)}"
        "- **Training**: all grids together, some tiles blank; distilled from the base on the same pixels.\n"
        f"- **Confidence**: temperature {t}, `min_confidence` {minimum}: the least at which validation images are answered "
        f"with a precision of {PRECISION}, all grids together. [Risk against coverage](cifar10-collage-{what}.svg).\n\n"
        f"Square grids: means over the {evaluate.SHUFFLES} shuffles into groups that `collage eval --seed` 0 to "
        f"{evaluate.SHUFFLES - 1} makes, the last group partial; others: the first of them. The base: "
        f"{judge.base_figures['accuracy']:.4f}; *drop* in points against it; *ECE*: expected calibration error (15 bins); "
        "*precision* and *coverage* at `min_confidence`.\n\n"
        "| grid | correct | least | most | accuracy | drop | ECE | precision | coverage |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    for grid, r in rows.items():
        text += (
            f"| {name_of(grid)} | {r['correct']:.1f} | {r['least']} | {r['most']} | {r['accuracy']:.4f} | "
            f"{judge.drop(r['accuracy']):.2f} | {r['ece']:.4f} | {r['precision']:.4f} | {r['coverage']:.4f} |\n"
        )
    return text


def rivals_table(judge, networks):
    """What other backups answer, with what they cost: none of their weights are kept here."""
    base_mmacs = judge.about["mmacs"]
    text = (
        "\n## Beside other backups\n\nAll learn from the same base by the same scripts, and are scored on the same images. *Extra "
        "work*: multiply-accumulates of the backup over those of the base, an image. *Passes*: how often each image was seen; the "
        "parity models' few, at the size of the base, are half again the multiply-accumulates of the collage's. That is too little "
        "to judge parity by: its authors, with longer training, lose 6.1 points for groups of 2 (Kosaian et al., SOSP 2019).\n\n"
        "| backup | accuracy when it answers | drop | extra work | bytes (f16) | passes | seconds of training |\n"
        "|---|---|---|---|---|---|---|\n"
    )

    def row(label, accuracy, kept, share=1):
        work, drop = 100 * kept["mmacs"] / base_mmacs / share, judge.drop(accuracy)
        return (
            f"| {label} | {accuracy:.4f} | {drop:.2f} | {work:.1f}% | {2 * kept['parameters']:,} | "
            f"{kept['network']['recipe']['epochs']} | {kept['seconds']:.0f} |\n"
        )

    for what in ("standard", "small"):
        kept, rows = networks[what]
        for grid in SQUARES:
            text += row(f"collage, {what}, {name_of(grid)}", rows[grid]["accuracy"], kept)
        text += row(f"{what}, mixing cut at tile borders, any grid", rows[(1, 1)]["accuracy"], kept)
    for what, label in RIVALS.items():
        if not (judge.args.runs / f"{what}-{judge.args.set}.pt").exists():
            text += f"| {label} | not trained | | | | | |\n"
            continue
        model, kept = loaded(judge.args.runs, what, judge.args.set, judge.device)
        k = int(what[-1]) if what.startswith("rival-parity") else 1
        if k > 1:
            logits, order = evaluate.parity_logits(model, judge.base, judge.data, judge.images, k, 0)
            truth = judge.labels[order]
        else:
            logits = evaluate.collage_logits(model, judge.data, judge.images, kept["network"]["tile"], (1, 1), 0)
            truth = judge.labels
        text += row(label, (logits.argmax(1) == truth).float().mean().item(), kept, k)
    return text


def frontier_table(judge, networks):
    """Accuracy against work of every network that takes collages."""
    text = (
        "\n## Accuracy against work\n\nOne network each, trained as the others were; *MMAC*: million multiply-accumulates a "
        f"tile; the base has {judge.about['mmacs']:.1f} and gets {judge.base_figures['accuracy']:.4f}.\n\n"
        f"| network | tile | MMAC | parameters |{''.join(f' {name_of(g)} |' for g in SQUARES)} seconds of training |\n"
        f"|---|---|---|---|{'---|' * len(SQUARES)}---|\n"
    )
    for what, (kept, rows) in sorted(networks.items(), key=lambda item: -item[1][0]["mmacs"]):
        tile = kept["network"]["tile"]
        text += f"| {what} | {tile}x{tile} | {kept['mmacs']:.1f} | {kept['parameters']:,} |"
        text += "".join(f" {rows[g]['accuracy']:.4f} |" for g in SQUARES) + f" {kept['seconds']:.0f} |\n"
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
    networks, shipped = {}, {}
    for what in ("standard", "small", *SHRUNK):
        if what in SHRUNK and not (args.runs / f"{what}-{args.set}.pt").exists():
            continue
        model, kept = loaded(args.runs, what, args.set, judge.device)
        tile = kept["network"]["tile"]
        t, minimum = judge.calibrated(model, tile, SQUARES)
        rows, curves = {}, {}
        for grid in SQUARES if what in SHRUNK else GRIDS:
            rows[grid], (logits, labels) = judge.grid(model, tile, grid, t, minimum)
            if grid in SQUARES:
                curves[name_of(grid)] = evaluate.risk_coverage(logits, labels, t)
        networks[what] = kept, rows
        if what not in SHRUNK:
            shipped[what] = model, t, minimum
            (args.out / f"cifar10-collage-{what}.svg").write_text(risk_coverage_plot(curves))
    for what, (model, t, minimum) in shipped.items():
        kept, rows = networks[what]
        found = accuracy | {name_of(g): round(r["accuracy"], 4) for g, r in rows.items()}
        about = describe(f"cifar10-collage-{what}", "collage", kept, t, minimum, found)
        size = write_model(args.out / f"cifar10-collage-{what}.safetensors", model, about)
        card = collage_card(judge, what, kept, size, t, minimum, rows)
        if what == "standard":
            card += rivals_table(judge, networks) + frontier_table(judge, networks)
        (args.out / f"cifar10-collage-{what}.md").write_text(card)
        print(card)


if __name__ == "__main__":
    main()
