"""What a student is shown and what the teacher says of it.

Both kinds return `draw(chosen, generator)`: pixels 0..255 (N, 3, 32, 32) of the images with the indices `chosen`,
mirrored and shifted; the teacher's logits (N, classes) on those pixels; and whether the images are blends, which have no
label.
"""

import hashlib
import sys
import time

import torch

import augment
from loop import autocast
from loop import generator as generator_of

BATCH = 500


def live(data, recipe, teacher):
    """New pixels at every draw; the teacher answers each time. In a share of the draws images are blends: what such a
    blend shows only the teacher can say."""

    def draw(chosen, generator):
        x = augment.seen(data.fit_images[chosen], recipe.shift, generator).float()
        is_mixed = bool(torch.rand((), generator=generator) < recipe.mixed)
        if is_mixed:
            x = augment.mixed(x, generator)
        with torch.no_grad():
            return x, teacher(data.normalised(x)).float(), is_mixed

    return draw


def views_path(shift, views, teacher, seed, folder):
    """Where what the teacher says of the views is kept."""
    weights = b"".join(tensor.cpu().numpy().tobytes() for tensor in teacher.state_dict().values())
    key = hashlib.sha256(weights + repr((seed, shift, views)).encode()).hexdigest()[:12]
    return folder / f"views-{key}.pt"


def from_views(data, recipe, teacher, seed, folder):
    """One of `recipe.views` fixed copies of each image at random. The teacher has labelled them all once, in `folder`,
    for all students of the same seed: cheap where the teacher is most of a student's cost."""
    path = views_path(recipe.shift, recipe.views, teacher, seed, folder)
    rng = generator_of(seed, "views")
    moves = [augment.moves(len(data.fit_images), recipe.shift, rng) for _ in range(recipe.views)]
    moves = torch.stack(moves).to(data.device)  # (views, images, 3)
    if not path.exists():
        started, logits = time.time(), []
        for view in moves:
            parts = zip(data.fit_images.split(BATCH), view.split(BATCH))
            with torch.no_grad(), autocast(data.device, recipe):
                each = [teacher(data.normalised(augment.moved(x, m, recipe.shift).float())) for x, m in parts]
            logits.append(torch.cat(each).half().cpu())
            print(f"views: {len(logits)}/{recipe.views}  {time.time() - started:.0f} s", file=sys.stderr, flush=True)
        torch.save({"logits": torch.stack(logits), "seconds": time.time() - started}, path)
    logits = torch.load(path, weights_only=True)["logits"].to(data.device)

    def draw(chosen, generator):
        view = torch.randint(recipe.views, (len(chosen),), generator=generator).to(data.device)
        x = augment.moved(data.fit_images[chosen], moves[view, chosen], recipe.shift).float()
        return x, logits[view, chosen].float(), False

    return draw
