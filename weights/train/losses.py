"""What one step of each kind of model minimises: a function of the model, the indices of the step's images and a generator."""

import torch
from torch.nn import functional as F

import augment
from data import canvases, shrunk


def base(data, recipe):
    """Cross-entropy on images of which a square is hidden."""

    def loss(model, chosen, generator):
        x = data.normalised(augment.seen(data.fit_images[chosen], recipe.shift, generator).float())
        if recipe.cut_out:
            x = augment.cut_out(x, recipe.cut_out, generator)
        return F.cross_entropy(model(x).float(), data.fit_labels[chosen], label_smoothing=recipe.smoothing)

    return loss


def filled(images, group, generator):
    """Which tiles hold the `images`, in order: all but the last group's rest, or about a fifth blank anywhere."""
    if torch.rand((), generator=generator) < 0.5:
        total = -(-images // group) * group
        return torch.arange(total) < images
    total = -(-(images * 5 // 4) // group) * group
    mask = torch.zeros(total, dtype=torch.bool)
    mask[torch.randperm(total, generator=generator)[:images]] = True
    return mask


def collage(data, recipe, draw, tile, grids):
    """Distillation from what the teacher says of `draw`'s images, with a share of their labels, on canvases of a random
    grid of `grids`, some tiles blank (0 once normalised, as `encode` leaves them). The teacher has seen the same pixels
    before they are shrunk; blank tiles have no loss, blends no label."""

    def loss(model, chosen, generator):
        x, told, is_mixed = draw(chosen, generator)
        target = F.softmax(told / recipe.softness, -1)
        rows, cols = grids[int(torch.randint(len(grids), (), generator=generator))]
        mask = filled(len(x), rows * cols, generator).to(x.device)
        tiles = torch.zeros(len(mask), 3, tile, tile, device=x.device)
        tiles[mask] = data.normalised(shrunk(x, tile)).to(tiles.dtype)
        x = canvases(tiles, rows, cols).contiguous(memory_format=torch.channels_last)
        logits = model(x).flatten(0, 2)[mask].float()
        # Hinton, Vinyals, Dean 2015: the square keeps gradients of soft targets as large as those of labels.
        soft = F.kl_div(F.log_softmax(logits / recipe.softness, -1), target, reduction="batchmean") * recipe.softness**2
        hard = 0.0 if is_mixed else F.cross_entropy(logits, data.fit_labels[chosen])
        return soft + recipe.hard * hard

    return loss


def parity(data, draw, k):
    """ParM (Kosaian et al., SOSP 2019), sum code: from the mean of k images' inputs to the mean of their base logits,
    by squared error. `draw` must not blend."""

    def loss(model, chosen, generator):
        x, told, _ = draw(chosen[: len(chosen) // k * k], generator)
        target = told.reshape(-1, k, told.shape[-1]).mean(1)
        x = data.normalised(x)
        query = x.reshape(-1, k, *x.shape[1:]).mean(1).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(query).float(), target)

    return loss
