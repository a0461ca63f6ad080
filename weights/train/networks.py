"""Every network that is trained here, by name, with its recipe.

Two sets: `gpu` for minutes on a data-centre GPU, `cpu` for some hours on two cores. Multiply-accumulates are
of one 32x32 image or of one tile; `train.py` refuses a network that has more than its limit.
"""

from dataclasses import dataclass

from loop import Recipe
from models import resnet

# Of a student on a CPU.
STUDENT = (
    Recipe(epochs=36, views=8),
    Recipe(epochs=48, turn=0.05, rate=0.05, warm_up=0.1, views=4, precision="f32"),
)
GRIDS = [(r, c) for r in range(1, 6) for c in range(1, 6)]


@dataclass(frozen=True)
class Network:
    """A network, what it may cost and how it is trained."""

    architecture: dict
    recipes: tuple[Recipe, ...]  # of its rounds: each goes on from what the one before made, as it is stored
    most_mmacs: float
    tile: int = 32  # of a collage: pixels along its side


SETS = {
    "gpu": {
        "base": Network(
            resnet(64, [(2, 64, 1), (2, 128, 2), (3, 256, 2)]),
            (Recipe(epochs=100, batch=512, turn=0.0, rate=0.4, average=0.999, cut_out=12),),
            600,
        ),
        # A 3x3 canvas of `standard` costs one run of the base, a 5x5 canvas of `small` too.
        "standard": Network(
            resnet(64, [(1, 64, 2), (1, 128, 2), (1, 256, 2)]),
            (Recipe(epochs=120, batch=512, mixed=0.5),),
            496.7 / 9,
        ),
        "small": Network(
            resnet(32, [(1, 32, 2), (1, 64, 2), (2, 128, 2)]),
            (Recipe(epochs=120, batch=512, mixed=0.5),),
            496.7 / 25,
        ),
    },
    "cpu": {
        # Wide and shallow: learns in few epochs.
        "base": Network(
            resnet(64, [(1, 128, 2), (1, 192, 2), (1, 256, 2)]),
            (
                Recipe(epochs=30, turn=0.0, rate=0.2, average=0.999),
                # The first round gets 97.4% of the images right that it learns from, so the second hides nothing.
                Recipe(epochs=16, batch=128, turn=0.0, rate=0.04, warm_up=0.1, cut_out=0, precision="f32"),
            ),
            120,
        ),
        "standard": Network(resnet(16, [(1, 32, 2), (1, 64, 2), (1, 144, 2)]), STUDENT, 114.8 / 9),
        "small": Network(resnet(16, [(1, 16, 2), (1, 40, 2), (1, 72, 2)]), STUDENT, 114.8 / 25),
    },
}
