"""CIFAR-10 on the device: the images to fit on and those to validate on, and how both become network inputs."""

import torch
from torch.nn import functional as F

import cifar


class Data:
    """u8 images (N, 3, 32, 32) and labels (N,) of the two parts of the training set."""

    def __init__(self, folder, device):
        images, labels = cifar.training_images(folder)
        fit_on, validate_on = cifar.split(labels)
        self.device = device
        self.mean, self.std = cifar.statistics(images[fit_on])
        self.fit_images, self.fit_labels = images[fit_on].to(device), labels[fit_on].to(device)
        self.validation_images, self.validation_labels = images[validate_on].to(device), labels[validate_on].to(device)

    def normalised(self, images):
        """Pixel values 0..255 to network input; channels last in memory."""
        mean, std = (255 * torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def shrunk(images, side):
    """u8 or float pixels (N, 3, H, W) to (N, 3, side, side), antialiased, as `encode` shrinks them."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def canvases(tiles, rows, cols):
    """(N, 3, T, T), N a multiple of rows * cols, to (N / (rows * cols), 3, rows * T, cols * T), row by row."""
    _, c, t, _ = tiles.shape
    x = tiles.reshape(-1, rows, cols, c, t, t).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(-1, c, rows * t, cols * t)
