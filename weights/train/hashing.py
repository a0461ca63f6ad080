"""Weights and images that anyone can make again from an integer hash, so that goldens store only what they lead to.

tests/golden/README.md states the same rules in words; the Rust tests mirror them. All arithmetic on hashes is modulo
2^32; all arithmetic on weights is f64, rounded once, at the end, to f32.
"""

import math

import numpy as np

SMALL = 0.2  # least weight of the last BatchNorm of a residual branch


def fnv1a(name):
    """FNV-1a, 32 bits, of the name's UTF-8 bytes."""
    h = 0x811C9DC5
    for byte in name.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def mix(x):
    """MurmurHash3's 32-bit finaliser, of a u32 array."""
    x = x.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def hashes(name, count):
    """mix(fnv1a(name) ^ i) for i in 0..count."""
    return mix(np.uint32(fnv1a(name)) ^ np.arange(count, dtype=np.uint32))


def uniform(name, shape):
    """f64 in [0, 1): the top 24 bits over 2^24, in row-major order of `shape`."""
    return ((hashes(name, math.prod(shape)) >> np.uint32(8)) / 2.0**24).reshape(shape)


def tensor(name, shape, last_of_branch):
    """The f32 tensor of that torchvision name. `last_of_branch` holds the names of such BatchNorm weights."""
    u = uniform(name, shape)
    signed = 2.0 * u - 1.0
    if len(shape) == 4:  # convolution, (O, I, KH, KW): variance 2 / fan_in
        value = signed * math.sqrt(6.0 / (shape[1] * shape[2] * shape[3]))
    elif len(shape) == 2:  # linear, (O, I): variance 1 / fan_in
        value = signed * math.sqrt(3.0 / shape[1])
    elif name.endswith("running_var"):
        value = 0.6 + 0.8 * u
    elif name.endswith("weight"):
        value = (SMALL if name in last_of_branch else 0.8) + 0.4 * u
    else:  # biases and running means
        value = 0.1 * signed
    return value.astype(np.float32)


def image(name, width, height):
    """u8 (height, width, 3): gradients, noise, and stripes between 0 and 255 that make bicubic overshoot."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = (hashes(name, height * width * 3) >> np.uint32(24)).astype(np.int64).reshape(height, width, 3)
    across, down = x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1)
    gradient = np.choose(c, [across, down, (across + down) // 2])
    edge = 255 * ((x // 3 + y // 5 + c) % 2)
    smooth = (3 * gradient + noise) // 4
    return np.where((x // 16 + y // 16) % 3 == 0, edge, smooth).astype(np.uint8)
