"""Trains the CIFAR-10 models, one at a time: the base first, then whatever it teaches.

    python weights/train/train.py base     --set gpu --data cifar-10-batches-bin --out runs
    python weights/train/train.py standard --set gpu --data cifar-10-batches-bin --out runs
    python weights/train/train.py rival-parity2 ...

A run that was cut off goes on from its checkpoint in --out. Each round ends with RUN/NAME-ROUND.pt, the averaged weights with
what made them, and its accuracy on the validation images. A student learns from the base of the same round. Test images are
not read; `cards.py` and `comparison.py` do that, once.
"""

import argparse
import json
import os
import platform
from dataclasses import asdict, replace
from pathlib import Path

import torch

import cifar
import evaluate
import losses
import teaching
from data import Data
from export import as_stored
from loop import Checkpoint, fit, parameters
from models import ResNet, macs, total_stride
from networks import GRIDS, SETS, Network

RIVALS = {
    "rival-parity2": "ParM's parity model for 2, of the base's own architecture",
    "rival-parity4": "ParM's parity model for 4",
    "rival-alone": "the network of `standard`, trained on single tiles only: the small per-image model",
}
SHRUNK = {"standard16": "standard", "small16": "small"}  # the same networks on images shrunk to 16x16


def chosen(args):
    """The network of a name; rivals take the recipe of `standard`, and its architecture or that of the base. What is trained for
    comparison has one round."""
    networks = SETS[args.set]
    first = networks["standard"].recipes[0]
    if args.what.startswith("rival-parity"):
        # Of the base's own architecture: so few passes are half again the collage's multiply-accumulates. A sum of blends
        # is nothing that a parity model meets.
        recipe = replace(first, epochs=first.epochs * int(args.what[-1]) // 6, mixed=0.0)
        network = replace(networks["base"], recipes=(recipe,))
    elif args.what in SHRUNK:
        network = replace(networks[SHRUNK[args.what]], tile=16, recipes=(first,))
    elif args.what in RIVALS:
        network = replace(networks["standard"], recipes=(first,))
    else:
        network = networks[args.what]
    if args.epochs is not None:
        network = replace(network, recipes=(replace(network.recipes[0], epochs=args.epochs),))
    return network


def built(what, network):
    """The untrained model."""
    cells = None if what == "base" or what.startswith("rival-parity") else network.tile // total_stride(network.architecture)
    return ResNet(network.architecture, len(cifar.CLASSES), cells)


def result(folder, what, set_name, of_round):
    """Where a round's result is."""
    return folder / f"{what}-{set_name}-{of_round}.pt"


def loaded(folder, what, set_name, of_round, device):
    """A trained model as it is stored, and what made it."""
    path = result(folder, what, set_name, of_round)
    if not path.exists():
        raise SystemExit(f"{path} is missing: run train.py {what} --set {set_name} first")
    kept = torch.load(path, map_location="cpu", weights_only=True)
    model = built(what, Network(**kept["network"]))
    model.load_state_dict(kept["model"])
    return as_stored(model).eval().to(device, memory_format=torch.channels_last), kept


def loss_for(what, data, network, recipe, teacher, args):
    """What the model learns from."""
    if what == "base":
        return losses.base(data, recipe)
    if recipe.views:
        draw = teaching.from_views(data, recipe, teacher, args.seed, args.out)
    else:
        draw = teaching.live(data, recipe, teacher)
    if what.startswith("rival-parity"):
        return losses.parity(data, draw, int(what[-1]))
    grids = [(1, 1)] if what == "rival-alone" else GRIDS
    return losses.collage(data, recipe, draw, network.tile, grids)


def validated(what, model, data, network, teacher):
    """Accuracy on the validation images."""
    images, labels = data.validation_images, data.validation_labels
    accuracy = lambda logits, truth: (logits.argmax(1) == truth).float().mean().item()
    if what == "base":
        return {"base": accuracy(evaluate.base_logits(model, data, images), labels)}
    if what.startswith("rival-parity"):
        logits, order = evaluate.parity_logits(model, teacher, data, images, int(what[-1]), 0)
        return {f"parity:{what[-1]}": accuracy(logits, labels[order])}
    grids = [(1, 1)] if what == "rival-alone" else [(g, g) for g in range(1, 6)]
    logits = lambda grid: evaluate.collage_logits(model, data, images, network.tile, grid, 0)
    return {f"{r}x{c}": accuracy(logits((r, c)), labels) for r, c in grids}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["base", "standard", "small", *SHRUNK, *RIVALS])
    parser.add_argument("--data", type=Path, required=True, help="folder with data_batch_1.bin to data_batch_5.bin")
    parser.add_argument("--set", choices=list(SETS), default="gpu", help="which sizes and recipes")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and results")
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = True
    data, network = Data(args.data, torch.device(args.device)), chosen(args)
    model = built(args.what, network).to(data.device)
    mmacs = macs(model, cifar.SIDE if args.what == "base" or args.what.startswith("rival") else network.tile) / 1e6
    if mmacs > network.most_mmacs:
        raise SystemExit(f"{args.what}: {mmacs:.1f} MMAC; expected at most {network.most_mmacs:.1f}")
    name = f"{args.what}-{args.set}"
    print(f"{name}: {mmacs:.1f} MMAC, {parameters(model):,} parameters", flush=True)
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    seconds, key, teacher = [], [network.architecture, network.tile], None
    for of_round, recipe in enumerate(network.recipes, 1):
        print(f"round {of_round}: {recipe}", flush=True)
        if args.what != "base":
            of_base = min(of_round, len(SETS[args.set]["base"].recipes))
            teacher, _ = loaded(args.out, "base", args.set, of_base, data.device)
        checkpoint = Checkpoint(args.out, f"{name}-{of_round}", recipe, args.seed, key)
        loss = loss_for(args.what, data, network, recipe, teacher, args)
        model, spent = fit(name, model, len(data.fit_images), loss, recipe, args.seed, checkpoint)
        model, key = as_stored(model), [*key, asdict(recipe)]
        seconds.append(spent)
        found = validated(args.what, model, data, network, teacher)
        about = {
            "network": {**asdict(network), "recipes": [asdict(r) for r in network.recipes[:of_round]]},
            "mmacs": mmacs,
            "parameters": parameters(model),
            "mean": data.mean,
            "std": data.std,
            "seed": args.seed,
            "seconds": seconds,
            "device": device,
            "torch": str(torch.__version__),
            "validation": found,
        }
        weights = {k: v.cpu() for k, v in model.state_dict().items()}
        torch.save({"model": weights, **about}, result(args.out, args.what, args.set, of_round))
        print(json.dumps({"validation": found, "seconds": round(spent)}), flush=True)


if __name__ == "__main__":
    main()
