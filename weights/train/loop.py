"""The training loop: a triangular rate, averaged weights, products in bf16 or f32; resumable.

An epoch draws from generators seeded by (seed, epoch) alone, so that a run that was cut off and goes on from its
checkpoint sees what an unbroken run would have seen. The same seed, device and number of threads give the same weights
as far as the device's own kernels are deterministic.
"""

import copy
import hashlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass

import torch
from torch import nn

from optimizers import optimizers_for


@dataclass(frozen=True)
class Recipe:
    """What a run is made of; part of the checkpoint's name, so that another recipe begins anew."""

    epochs: int
    batch: int = 256  # images a step
    turn: float = 0.1  # Muon's rate at the top of the triangle: a step's size relative to the weights; 0: SGD alone
    momentum: float = 0.8  # Muon's
    rate: float = 0.1  # SGD's at the top
    warm_up: float = 0.15  # share of the steps before the top
    weight_decay: float = 5e-4
    smoothing: float = 0.1  # of labels
    average: float = 0.998  # decay of the averaged weights, a step
    shift: int = 4  # pixels
    cut_out: int = 8  # pixels; 0 for none; of the base
    mixed: float = 0.0  # share of the steps with blends of images; of a student without views
    views: int = 0  # fixed copies of each image that the teacher labels once; 0: it answers at every step
    softness: float = 2.0  # temperature that teacher and student are compared at
    hard: float = 0.3  # weight of the labels beside the teacher
    precision: str = "bf16"  # of products; f32 is faster on a processor without quicker instructions for bf16


class Average:
    """Exponential moving average of parameters and BatchNorm statistics."""

    def __init__(self, model, decay):
        self.model, self.decay = copy.deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        floats = [(a, b) for a, b in zip(self.model.state_dict().values(), model.state_dict().values())
                  if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)


class Progress:
    """One line that is overwritten on a terminal; one line an epoch elsewhere."""

    def __init__(self, name, epochs, first):
        self.name, self.epochs, self.first, self.started = name, epochs, first, time.time()

    def show(self, epoch, share, loss):
        """`epoch` from 1, of which `share` is done."""
        done, spent = epoch - 1 + share - self.first, time.time() - self.started
        left = spent / max(done, 1e-9) * (self.epochs - epoch + 1 - share)
        line = f"{self.name}: epoch {epoch}/{self.epochs}  loss {loss:.4f}  {spent:.0f} s, {left:.0f} s left"
        if sys.stderr.isatty():
            end = "\n" if share == 1 and epoch == self.epochs else ""
            print(f"\r{line}\x1b[K", end=end, file=sys.stderr, flush=True)
        elif share == 1:
            print(line, file=sys.stderr, flush=True)


def height(recipe, step, steps):
    """Share of the rates: linear up to 1, linear down to 0."""
    top = max(1, round(recipe.warm_up * steps))
    return step / top if step < top else max(0.0, (steps - step) / (steps - top))


def generator(seed, epoch):
    """A host generator of its own for each epoch, or for whatever else is named."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "big"))


def autocast(device, recipe):
    """Products in the recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


class Checkpoint:
    """Where a run is kept after each epoch; None keeps nothing."""

    def __init__(self, folder, name, recipe, seed, about):
        self.path = None
        if folder is not None:
            key = json.dumps([asdict(recipe), seed, about], sort_keys=True)
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"

    def load(self):
        """What was kept last, or None."""
        if self.path is None or not self.path.exists():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def save(self, **state):
        """Replaces the file at once, so that a kill leaves the old one or the new one."""
        if self.path is not None:
            new = self.path.with_suffix(".new")
            torch.save(state, new)
            new.replace(self.path)


def fit(name, model, images, loss_of, recipe, seed, checkpoint):
    """Trains `model` on so many `images`; returns (the averaged model in evaluation mode, seconds of training over all
    its runs). `loss_of(model, chosen, generator)` is one step's loss, on the images with the indices `chosen`.
    """
    device = next(model.parameters()).device
    steps_an_epoch = images // recipe.batch
    steps = steps_an_epoch * recipe.epochs
    model = model.to(memory_format=torch.channels_last)
    average, optimizers = Average(model, recipe.average), optimizers_for(model, recipe)
    first, before = 0, 0.0
    if (kept := checkpoint.load()) is not None:
        model.load_state_dict(kept["model"])
        average.model.load_state_dict(kept["average"])
        for optimizer, state in zip(optimizers, kept["optimizers"]):
            optimizer.load_state_dict(state)
        first, before = kept["epoch"], kept["seconds"]
    progress = Progress(name, recipe.epochs, first)
    for epoch in range(first + 1, recipe.epochs + 1):
        rng = generator(seed, epoch)
        order = torch.randperm(images, generator=rng).to(device)
        model.train()
        total = torch.zeros((), device=device)
        for i in range(steps_an_epoch):
            step = (epoch - 1) * steps_an_epoch + i
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = optimizer.defaults["lr"] * height(recipe, step + 1, steps + 1)
            chosen = order[i * recipe.batch : (i + 1) * recipe.batch]
            with autocast(device, recipe):
                loss = loss_of(model, chosen, rng)
            model.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            average.update(model, step)
            total += loss.detach()
            if sys.stderr.isatty() and i % 20 == 19:
                progress.show(epoch, (i + 1) / steps_an_epoch, (total / (i + 1)).item())
        mean = (total / steps_an_epoch).item()
        if not math.isfinite(mean):
            rates = f"{recipe.turn} and {recipe.rate}"
            raise SystemExit(f"{name}: the loss is {mean} in epoch {epoch}; try lower rates than {rates}")
        progress.show(epoch, 1, mean)
        checkpoint.save(
            model=model.state_dict(),
            average=average.model.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in optimizers],
            epoch=epoch,
            seconds=before + time.time() - progress.started,
        )
    return average.model, before + time.time() - progress.started


def parameters(model):
    """Of all kinds, BatchNorm's statistics left out."""
    return sum(p.numel() for p in model.parameters() if isinstance(p, nn.Parameter))
