"""What moves the weights: Muon for the convolutions inside, SGD with Nesterov momentum for the rest.

Muon (K. Jordan and others, 2024, <https://kellerjordan.github.io/posts/muon>) makes each update of a matrix nearly
orthogonal, so that all directions of a layer learn alike. What it buys here stands in weights/README.md. torch.optim.Muon takes
matrices only, not the weights of convolutions, and keeps no norm.
"""

import torch


def orthogonal(matrix, steps=3):
    """`matrix` with its singular values moved near 1, by Newton and Schulz's iteration with Jordan's coefficients; in
    bf16, which is enough. Three steps leave them between about 0.3 and 1.2 but for those near 0."""
    x = matrix.bfloat16()
    wide = x if len(x) <= x.shape[1] else x.T
    y = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        product = y @ y.T
        y = 3.4445 * y + (-4.7750 * product + 2.0315 * product @ product) @ y
    return (y if wide is x else y.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """For weights (O, I, KH, KW) that BatchNorm follows, so that their scale means nothing: each is kept at the norm
    sqrt(O), which an orthogonal update of a wide matrix has too, and `lr` is an update's size relative to it."""

    def __init__(self, weights, lr, momentum):
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        """Moves every weight once."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                mean = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                ahead = weight.grad + group["momentum"] * mean  # Nesterov's
                update = orthogonal(ahead.flatten(1)).reshape(weight.shape)
                weight.mul_(len(weight) ** 0.5 / weight.norm()).sub_(update, alpha=group["lr"])


def decay_groups(weights, decay):
    """Parameter groups in which biases and BatchNorm's factors are not decayed."""
    decayed, plain = [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def optimizers_for(model, recipe):
    """One or both, for all of `model`'s parameters. The first convolution is SGD's, for it mixes three channels only."""
    inner, rest = [], []
    for p in model.parameters():
        (inner if recipe.turn and p.ndim == 4 and p.shape[1] > 3 else rest).append(p)
    sgd = torch.optim.SGD(decay_groups(rest, recipe.weight_decay), lr=recipe.rate, momentum=0.9, nesterov=True)
    return [sgd, Muon(inner, recipe.turn, recipe.momentum)] if inner else [sgd]
