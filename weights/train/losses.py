"""What one step of each kind of model minimises. Images are u8 (N, 3, 32, 32) on the device."""

import torch
from torch.nn import functional as F

import augment
from data import canvases, shrunk


def seen(data, images, recipe, generator):
    """Mirrored and shifted images, as floats 0..255."""
    return augment.shifted(augment.flipped(images, generator), recipe.shift, generator).float()


def base(data, recipe):
    """Cross-entropy on images of which a square is hidden."""

    def loss(model, images, labels, generator):
        x = data.normalised(seen(data, images, recipe, generator))
        if recipe.cut_out:
            x = augment.cut_out(x, recipe.cut_out, generator)
        return F.cross_entropy(model(x).float(), labels, label_smoothing=recipe.smoothing)

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


def collage(data, recipe, teacher, tile, grids):
    """Distillation from `teacher`, with a share of the labels, on canvases of a random grid of `grids`, some tiles
    blank (0 once normalised, as `encode` leaves them). The teacher sees the same pixels before they are shrunk; blank
    tiles have no loss. In a share of the steps images are blends: what such a blend shows only the teacher can say.
    """

    def loss(model, images, labels, generator):
        x = seen(data, images, recipe, generator)
        is_mixed = torch.rand((), generator=generator) < recipe.mixed
        if is_mixed:
            x = augment.mixed(x, generator)
        with torch.no_grad():
            target = F.softmax(teacher(data.normalised(x)).float() / recipe.softness, -1)
        rows, cols = grids[int(torch.randint(len(grids), (), generator=generator))]
        mask = filled(len(x), rows * cols, generator).to(x.device)
        tiles = torch.zeros(len(mask), 3, tile, tile, device=x.device)
        tiles[mask] = data.normalised(shrunk(x, tile)).to(tiles.dtype)
        x = canvases(tiles, rows, cols).contiguous(memory_format=torch.channels_last)
        logits = model(x).flatten(0, 2)[mask].float()
        # Hinton, Vinyals, Dean 2015: the square keeps gradients of soft targets as large as those of labels.
        soft = F.kl_div(F.log_softmax(logits / recipe.softness, -1), target, reduction="batchmean") * recipe.softness**2
        hard = 0.0 if is_mixed else F.cross_entropy(logits, labels)
        return soft + recipe.hard * hard

    return loss


def parity(data, recipe, teacher, k):
    """ParM (Kosaian et al., SOSP 2019), sum code: from the mean of k images' inputs to the mean of their base logits,
    by squared error."""

    def loss(model, images, labels, generator):
        whole = len(images) // k * k
        x = data.normalised(seen(data, images[:whole], recipe, generator))
        with torch.no_grad():
            target = teacher(x).float().reshape(-1, k, 10).mean(1)
        query = x.reshape(-1, k, *x.shape[1:]).mean(1).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(query).float(), target)

    return loss
