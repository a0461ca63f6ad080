"""The ResNet family that a model file's `architecture` describes, with torchvision's tensor names.

One class serves the base and the collage network: they differ only in how the last feature map is pooled. A base
pools it whole; a collage pools it tile by tile, so that one set of weights answers any grid.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (`basic`), or 1x1, 3x3, 1x1 (`bottleneck`); the 3x3 carries the stride."""

    def __init__(self, inputs, channels, stride, kind, shortcut):
        super().__init__()
        self.outputs = channels * (4 if kind == "bottleneck" else 1)
        kernels = (1, 3, 1) if kind == "bottleneck" else (3, 3)
        widths = (channels, channels, self.outputs) if kind == "bottleneck" else (channels, channels)
        strided = 1 if kind == "bottleneck" else 0
        self.count = len(kernels)
        previous = inputs
        for i, (kernel, width) in enumerate(zip(kernels, widths)):
            step = stride if i == strided else 1
            setattr(self, f"conv{i + 1}", nn.Conv2d(previous, width, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(width))
            previous = width
        self.stride, self.grow = stride, self.outputs - inputs
        changes = stride != 1 or self.grow != 0
        self.downsample = None
        if changes and shortcut == "projection":
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, self.outputs, 1, stride, bias=False), nn.BatchNorm2d(self.outputs)
            )

    def forward(self, x):
        """x: (N, C, H, W)."""
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = F.relu(y)
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.stride != 1 or self.grow != 0:
            # Option A of He et al.: subsample, and pad channels with zeros on both sides.
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.grow // 2, self.grow - self.grow // 2))
        return F.relu(x + y)


class ResNet(nn.Module):
    """`architecture` as in the metadata; `cells` is the side of the pooling window, None for the whole map."""

    def __init__(self, architecture, classes, cells=None):
        super().__init__()
        assert architecture["family"] == "resnet"
        stem = architecture["stem"]
        self.conv1 = nn.Conv2d(3, stem["channels"], stem["kernel"], stem["stride"], stem["kernel"] // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem["channels"])
        self.max_pool, self.cells, self.head = stem["max_pool"], cells, architecture["head"]
        channels, self.stages = stem["channels"], len(architecture["stages"])
        kind, shortcut = architecture["block"], architecture["shortcut"]
        for i, stage in enumerate(architecture["stages"]):
            blocks = []
            for j in range(stage["blocks"]):
                stride = stage["stride"] if j == 0 else 1
                blocks.append(Block(channels, stage["channels"], stride, kind, shortcut))
                channels = blocks[-1].outputs
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        setattr(self, self.head, nn.Linear(channels, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        """x: (N, 3, rows * tile, cols * tile); returns (N, rows, cols, classes), or (N, classes) without `cells`."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.max_pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        x = x.mean((2, 3)) if self.cells is None else F.avg_pool2d(x, self.cells).permute(0, 2, 3, 1)
        return getattr(self, self.head)(x)


def resnet(stem, stages, block="basic", shortcut="projection", head="fc"):
    """`architecture` of a network with a 3x3 stem of stride 1; stages are (blocks, channels, stride)."""
    return {
        "family": "resnet",
        "block": block,
        "stem": {"channels": stem, "kernel": 3, "stride": 1, "max_pool": False},
        "stages": [{"blocks": b, "channels": c, "stride": s} for b, c, s in stages],
        "shortcut": shortcut,
        "head": head,
    }


def cifar_resnet(depth):
    """`architecture` of He et al.'s CIFAR-10 ResNet of 6n + 2 layers, option A."""
    blocks = (depth - 2) // 6
    return resnet(16, [(blocks, 16, 1), (blocks, 32, 2), (blocks, 64, 2)], shortcut="pad", head="linear")


def total_stride(architecture):
    """Input pixels per cell of the last feature map."""
    stem = architecture["stem"]
    stride = stem["stride"] * (2 if stem["max_pool"] else 1)
    for stage in architecture["stages"]:
        stride *= stage["stride"]
    return stride


def macs(model, side):
    """Multiply-accumulates of convolutions and head for one (3, side, side) input."""
    total = 0

    def count(module, _, output):
        nonlocal total
        per_output = module.weight[0].numel()
        total += output.numel() * per_output

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return total
