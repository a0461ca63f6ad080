"""Writes weights/cifar10-comparison.md: other backups, and accuracy against work, all after one round.

    python weights/train/comparison.py --set gpu --data cifar-10-batches-bin --runs runs --out weights

After one round all have learnt from the same base with like budgets. Rivals that were not trained are said to be missing.
"""

import evaluate
from judge import DATA, GENERATED, SQUARES, Judge, name_of, parse
from train import RIVALS, SHRUNK, loaded, result

ROUND = 1


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
            f"{kept['network']['recipes'][0]['epochs']} | {kept['seconds'][0]:.0f} |\n"
        )

    for what in ("standard", "small"):
        kept, rows = networks[what]
        for grid in SQUARES:
            text += row(f"collage, {what}, {name_of(grid)}", rows[grid]["accuracy"], kept)
        text += row(f"{what}, mixing cut at tile borders, any grid", rows[(1, 1)]["accuracy"], kept)
    for what, label in RIVALS.items():
        if not result(judge.args.runs, what, judge.args.set, ROUND).exists():
            text += f"| {label} | not trained | | | | | |\n"
            continue
        model, kept = loaded(judge.args.runs, what, judge.args.set, ROUND, judge.device)
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
        text += "".join(f" {rows[g]['accuracy']:.4f} |" for g in SQUARES) + f" {kept['seconds'][0]:.0f} |\n"
    return text


def main():
    args = parse(__doc__)
    judge, networks = Judge(args, ROUND), {}
    for what in ("standard", "small", *SHRUNK):
        if what in SHRUNK and not result(args.runs, what, args.set, ROUND).exists():
            continue
        model, kept = loaded(args.runs, what, args.set, ROUND, judge.device)
        rows = {grid: judge.grid(model, kept["network"]["tile"], grid)[0] for grid in SQUARES}
        networks[what] = kept, rows
    text = (
        f"{GENERATED.format('comparison.py')}# Collage networks beside other backups, on CIFAR-10\n\n"
        f"Set `{args.set}` of weights/train, seed {judge.about['seed']}, after the first of its rounds: what ships may have learnt for "
        f"longer, and its cards say what it gets. The base got {judge.base_figures['correct']:,} of "
        f"{judge.base_figures['answers']:,} right, {judge.base_figures['accuracy']:.4f}. {DATA.format(f'{len(judge.labels):,}')}"
    )
    text += rivals_table(judge, networks) + frontier_table(judge, networks)
    (args.out / "cifar10-comparison.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
