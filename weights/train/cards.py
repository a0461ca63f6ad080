"""Exports trained models to weights/ and writes their cards.

    python weights/train/cards.py --set gpu --data cifar-10-batches-bin --runs runs --out weights

Each is what its last round made. Temperature and least confidence are chosen on the validation images; what is rounded to
f16 and stored is what is scored.
"""

import cifar
import evaluate
from export import write_model
from judge import DATA, GENERATED, PRECISION, SQUARES, Judge, name_of, parse
from models import total_stride
from networks import GRIDS, SETS
from plot import risk_coverage_plot
from train import loaded

SIZES = ("standard", "small")
LICENCE = "MIT OR Apache-2.0; the images of CIFAR-10 have no stated licence"
CPU = (
    "- **Set `cpu`**: what two CPU cores train within a few hours, below the accuracy that the set `gpu` of the same scripts is "
    "made for. That set (weights/train/networks.py) has not been run: there is no figure of it.\n"
)


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


def rounds(kept):
    """What each round was, in words."""
    told = []
    for recipe, seconds in zip(kept["network"]["recipes"], kept["seconds"]):
        moved = "Muon and SGD" if recipe["turn"] else "SGD"
        told.append(
            f"{recipe['epochs']} epochs of batches of {recipe['batch']} by {moved} with {recipe['precision']} products, {seconds:.0f} s"
        )
    return "; then ".join(told)


def made(judge, kept):
    """How it was trained, for its card."""
    views, taught = [str(recipe["views"]) for recipe in kept["network"]["recipes"] if recipe["views"]], ""
    if views:
        taught = f" In each round the base of that round had labelled copies of each image beforehand: {', then '.join(views)}."
    return (
        f"- **Made by** weights/train, set `{judge.args.set}`, seed {kept['seed']}: {rounds(kept)}; on {kept['device']}, shared with "
        f"other work; torch {kept['torch']}.{taught}\n"
        f"{CPU if judge.args.set == 'cpu' else ''}"
        f"- **Network**: {kept['parameters']:,} parameters, {kept['mmacs']:.1f} million multiply-accumulates an image; "
        "stored as f16, and so measured below.\n"
        f"- **Data**: {DATA.format(f'{len(judge.labels):,}')}"
        f"- **Licence**: {LICENCE}.\n"
    )


def base_card(judge, size):
    f, t = judge.base_figures, judge.base_temperature
    return (
        f"{GENERATED.format('cards.py')}# cifar10-base\n\nClassifies one 32x32 photograph into the ten classes of CIFAR-10.\n\n"
        f"{made(judge, judge.about)}"
        f"- **Accuracy**: {f['correct']:,} of {f['answers']:,}, {f['accuracy']:.4f}; {size:,} bytes.\n"
        f"- **Confidence**: temperature {t}; expected calibration error {f['ece']:.4f} (15 bins).\n"
    )


def collage_card(judge, what, kept, size, t, minimum, rows):
    ratio = judge.about["mmacs"] / kept["mmacs"]
    text = (
        f"{GENERATED.format('cards.py')}# cifar10-collage-{what}\n\nClassifies every tile of an r x c collage of CIFAR-10 photographs in one "
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


def main():
    args = parse(__doc__)
    last = {what: len(SETS[args.set][what].recipes) for what in ("base", *SIZES)}
    judge = Judge(args, last["base"])
    accuracy = {"base": round(judge.base_figures["accuracy"], 4)}
    about = describe("cifar10-base", "base", judge.about, judge.base_temperature, None, accuracy)
    size = write_model(args.out / "cifar10-base.safetensors", judge.base, about)
    (args.out / "cifar10-base.md").write_text(base_card(judge, size))
    for what in SIZES:
        model, kept = loaded(args.runs, what, args.set, last[what], judge.device)
        tile = kept["network"]["tile"]
        t, minimum = judge.calibrated(model, tile, SQUARES)
        rows, curves = {}, {}
        for grid in GRIDS:
            rows[grid], (logits, labels) = judge.grid(model, tile, grid, t, minimum)
            if grid in SQUARES:
                curves[name_of(grid)] = evaluate.risk_coverage(logits, labels, t)
        (args.out / f"cifar10-collage-{what}.svg").write_text(risk_coverage_plot(curves))
        found = accuracy | {name_of(g): round(r["accuracy"], 4) for g, r in rows.items()}
        about = describe(f"cifar10-collage-{what}", "collage", kept, t, minimum, found)
        size = write_model(args.out / f"cifar10-collage-{what}.safetensors", model, about)
        card = collage_card(judge, what, kept, size, t, minimum, rows)
        (args.out / f"cifar10-collage-{what}.md").write_text(card)
        print(card)


if __name__ == "__main__":
    main()
