"""The model cards of the digits models: every figure in them comes from the run that wrote them."""

GENERATED = "<!-- Written by weights/train/train_digits.py: change the script, not this file. -->\n\n"


def write_cards(out, run):
    """Writes digits-base.md and digits-collage.md into `out` and prints them."""
    for kind, text in (("base", base_card(run)), ("collage", collage_card(run))):
        (out / f"digits-{kind}.md").write_text(text)
        print(text)


def head(run, kind, what):
    """What both cards begin with."""
    architecture, unit = run["about"][kind]["architecture"], "a tile" if kind == "collage" else "an image"
    stages = [f"{s['blocks']} x {s['channels']} channels at stride {s['stride']}" for s in architecture["stages"]]
    return (
        f"{GENERATED}# digits-{kind}\n\n{what}\n\n"
        f"- **Network**: ResNet, 3x3 stem of {architecture['stem']['channels']} channels, basic blocks: "
        f"{', '.join(stages)}; {run['parameters'][kind]:,} parameters, {run['macs'][kind]:,} multiply-accumulates "
        f"{unit}; {run['bytes'][kind]:,} bytes, stored as f16, and so measured below.\n"
    )


def recipe(run, kind):
    """Data, split and how it was made."""
    return (
        f"- **Data**: {run['attribution']}.\n"
        f"- **Licence**: {run['about'][kind]['licence']} for the data and, with its attribution, for these weights.\n"
        f"- **Split**: stratified, by image and not by writer (the set does not say who wrote what): {run['fit']:,} "
        f"images to train on, {run['validation']} carved from the training images to choose and calibrate by, "
        f"{run['held_out']} held out, scored at the end and used for nothing else.\n"
        f"- **Made by** `python weights/train/train_digits.py --seed {run['seed']} --threads {run['threads']} --base-epochs "
        f"{run['epochs']['base']} --collage-epochs {run['epochs']['collage']} --out weights/`: {run['epochs'][kind]} "
        f"epochs, {run['seconds'][kind]:.0f} s on {run['device']}, shared with other work.\n"
    )


def calibrated(run, kind, ece, where):
    """The temperature and the error that it leaves."""
    return (
        f"- **Confidence**: temperature {run['about'][kind]['temperature']}, fitted to the validation images and "
        f"{run['copies']} copies of each, bent by {run['bent']} of training's augmentation (of the images alone the "
        f"networks miss next to none). Expected calibration error on held-out images{where}: {ece:.4f} (15 bins).\n"
    )


def base_card(run):
    """The single-image classifier's card."""
    result = run["base"]
    text = head(run, "base", f"Classifies one handwritten digit; 8x8 pixels enlarged to {run['side']}x{run['side']}.")
    text += recipe(run, "base") + calibrated(run, "base", result["ece"], "")
    return text + (
        f"- **Accuracy on held-out images**: {result['correct']} of {result['answers']}, {result['accuracy']:.4f}. "
        f"One image is {1 / result['answers']:.4f}.\n\n"
        "Meant for demonstrations and tests of the engine; not for reading digits in earnest.\n"
    )


def collage_card(run):
    """The collage network's card, with a line for every grid."""
    base, grids = run["base"], run["grids"]
    ratio = run["macs"]["base"] / run["macs"]["collage"]
    what = (
        f"Classifies every tile of an r x c collage of handwritten digits in one shot; each digit is shrunk from 8x8 "
        f"to {run['tile']}x{run['tile']} pixels. One file serves every grid from 1x1 to 5x5; tiles may be blank. "
        f"A tile costs 1/{ratio:.1f} of a base run, so a 3x3 canvas costs {9 / ratio:.2f} of one."
    )
    text = head(run, "collage", what) + recipe(run, "collage")
    text += (
        "- **Training**: all grids together, about a fifth of the tiles blank in half of the steps and partial last "
        "groups in the others; 0.7 distilled from digits-base on the same augmented image, 0.3 labels; shifts, "
        "rotations, scales, shears and bends before shrinking; averaged weights.\n"
    )
    square, minimum = grids["3x3"], run["about"]["collage"]["min_confidence"]
    text += calibrated(run, "collage", square["ece"], " at 3x3")
    text += (
        f"- **Abstention**: `min_confidence` {minimum} is the least above which those copies are answered with a "
        f"precision of {run['precision']}, all grids together. Held out, at 3x3, it gives precision "
        f"{square['precision']:.4f} at coverage {square['coverage']:.4f}.\n"
    )
    text += (
        f"\nAccuracy on the {run['held_out']} held-out images, abstention off, over {run['shuffles']} seeded shuffles "
        "into groups, the last group partial (*correct*: mean of the shuffles, then least and most). The base gets "
        f"{base['correct']} of {base['answers']}, {base['accuracy']:.4f}; *drop* is in points against it, "
        "*agreement* is with the base's answer, *precision* and *coverage* are at `min_confidence`.\n\n"
        "| grid | correct | least | most | accuracy | drop | agreement | ECE | precision | coverage |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    for grid, r in grids.items():
        drop = 100 * (base["accuracy"] - r["accuracy"])
        text += (
            f"| {grid} | {r['correct'] / run['shuffles']:.1f} | {r['least']} | {r['most']} | {r['accuracy']:.4f} "
            f"| {drop:.2f} | {r['agreement']:.4f} | {r['ece']:.4f} | {r['precision']:.4f} | {r['coverage']:.4f} |\n"
        )
    return text + "\nMeant for demonstrations and tests of the engine; not for reading digits in earnest.\n"
