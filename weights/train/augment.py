"""Random changes of a batch on its own device; every image draws its own. u8 or float (N, 3, H, W) in and out.

All draws come from one generator on the host, so that a run repeats on any device.
"""

import torch
from torch.nn import functional as F


def moves(n, by, generator):
    """How `n` images are moved: whether mirrored, and rows and columns of a shift, 0 to 2 * by. (N, 3)."""
    mirror = torch.rand(n, generator=generator) < 0.5
    return torch.stack([mirror, *torch.randint(0, 2 * by + 1, (2, n), generator=generator)], 1)


def moved(x, moves, by):
    """Mirrored left to right or not, and moved by up to `by` pixels each way over a border that continues the image as a
    mirror."""
    n, _, h, w = x.shape
    mirror, top, left = moves.to(x.device).unbind(1)
    x = torch.where(mirror.bool()[:, None, None, None], x.flip(3), x)
    padded = F.pad(x.float(), (by, by, by, by), mode="reflect").to(x.dtype)
    rows = top[:, None] + torch.arange(h, device=x.device)
    columns = left[:, None] + torch.arange(w, device=x.device)
    each = torch.arange(n, device=x.device)
    # (N, H, W, 3): advanced indices come first.
    return padded[each[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def seen(x, by, generator):
    """Mirrored and shifted at random."""
    return moved(x, moves(len(x), by, generator), by)


def cut_out(x, side, generator):
    """A square of `side` pixels, anywhere and partly outside, is 0 in each: the mean once normalised."""
    n, _, h, w = x.shape
    centre = torch.rand(2, n, generator=generator).to(x.device)
    y, xs = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    inside_y = (y - (centre[0] * h)[:, None]).abs() < side / 2
    inside_x = (xs - (centre[1] * w)[:, None]).abs() < side / 2
    hidden = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    return x.masked_fill(hidden, 0)


def mixed(x, generator):
    """Images blended with one another by a random share each (mixup): for distillation, where the teacher says what
    a blend shows."""
    weights = torch.rand(len(x), generator=generator)
    weights = weights.to(x.device)[:, None, None, None]
    other = torch.randperm(len(x), generator=generator).to(x.device)
    return weights * x + (1 - weights) * x[other]
