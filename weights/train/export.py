"""Writes model files that describe themselves: one safetensors whose `__metadata__["collage"]` is a JSON string."""

import hashlib
import json

import torch
from safetensors.torch import save


def data_section(serialised):
    """The bytes behind a safetensors header: u64 little-endian header length, header, data."""
    return serialised[8 + int.from_bytes(serialised[:8], "little") :]


def write_model(path, model, description, dtype=torch.float16):
    """Stores `model`'s tensors as `dtype`; `description` is the metadata without format, classes' checks or sha256.

    Returns the bytes written. The checksum is of the data section, which does not depend on the metadata.
    """
    tensors = {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    for name, tensor in tensors.items():
        assert torch.isfinite(tensor.float()).all(), f"{name} does not fit {dtype}"
    digest = hashlib.sha256(data_section(save(tensors))).hexdigest()
    metadata = json.dumps({"format": 1, **description, "sha256": digest}, separators=(",", ":"))
    serialised = save(tensors, metadata={"collage": metadata})
    assert hashlib.sha256(data_section(serialised)).hexdigest() == digest
    path.write_bytes(serialised)
    return len(serialised)


def as_stored(model, dtype=torch.float16):
    """`model` with its tensors rounded to `dtype`: what every published figure is measured on."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(dtype))
    return model
