"""Makes tests/golden/*.safetensors: what PyTorch, torchvision and Pillow answer, for the Rust tests to agree with.

    python weights/train/golden.py --shared ../shared/data --out tests/golden     (all of them)
    python weights/train/golden.py --shared ../shared/data --photographs DIR      (only PNG copies, decoded by Pillow)

Without --shared, the files that need other people's weights or photographs are left as they are. The weights and
images that goldens lead from are never stored: they are hashed again (hashing.py), shipped, or found under --shared.
tests/golden/README.md describes every file.
"""

import argparse
import hashlib
import json
import lzma
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

import hashing
from digits_data import canvases, normalised, resized
from models import ResNet, cifar_resnet

IMAGENET = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
SIZES = [(500, 375), (375, 500), (301, 97), (97, 301), (37, 53), (224, 224), (8, 8), (1, 7), (333, 250)]  # width, height
GREY = (333, 250)  # the one that is made of channel 0 only
CROPS = [(6, 6), (32, 32), (64, 64), (138, 138), (256, 224)]  # resize, size
WHOLE = 64  # crops up to this side are stored whole, larger ones every ROW_STEP-th row
ROW_STEP = 16
SAMPLES = 256  # decoded pixels stored of a photograph


def write(path, tensors, about):
    """One golden file; `about` is JSON under the metadata key "golden"."""
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in tensors.items()}
    save_file(tensors, path, metadata={"golden": json.dumps(about, separators=(",", ":"))})
    print(f"{path}: {path.stat().st_size:,} bytes, {len(tensors)} tensors")


def imagenet_normalised(pixels):
    """u8 (N, H, W, 3) to f32 (N, 3, H, W)."""
    mean, std = IMAGENET
    return torch.from_numpy(((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2).copy())


def cifar_test(shared):
    """The 5,000 shared CIFAR-10 test images: u8 (5000, 32, 32, 3) and labels."""
    raw = lzma.decompress((shared / "cifar-10/test_batch.bin.xz").read_bytes())
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)


def third_party(shared, out):
    """Logits of other people's CIFAR-10 ResNets, and how many of all images they get right."""
    pixels, labels = cifar_test(shared)
    x, tensors, correct = imagenet_normalised(pixels), {}, {}
    for depth in (20, 32):
        model = ResNet(cifar_resnet(depth), 10).eval()
        weights = load_file(shared / f"third-party-weights/resnet{depth}.safetensors")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
        with torch.no_grad():
            logits = torch.cat([model(part) for part in x.split(250)])
        correct[f"resnet{depth}"] = (logits.argmax(1).numpy() == labels).sum().item()
        tensors[f"resnet{depth}"] = logits[:64].numpy()
    print(f"third-party: right of {len(labels)}: {correct}")
    write(out / "third_party.safetensors", tensors, {"images": len(labels), "correct": correct})


def hashed_networks(out):
    """Logits of torchvision's resnet18 and resnet50 on hash-made weights and images."""
    pixels = np.stack([hashing.image(f"input{i}", 224, 224) for i in range(2)])
    x, tensors = imagenet_normalised(pixels), {}
    for name, last in (("resnet18", "bn2"), ("resnet50", "bn3")):
        model = getattr(torchvision.models, name)(weights=None).eval()
        state = model.state_dict()
        tails = {k for k in state if k.endswith(f"{last}.weight") and k.startswith("layer")}
        for key, value in state.items():
            if not key.endswith("num_batches_tracked"):
                value.copy_(torch.from_numpy(hashing.tensor(key, tuple(value.shape), tails)))
        with torch.no_grad():
            logits = model(x)
            exact = model.double()(x.double())
        between, rounding = (logits[0] - logits[1]).abs().max(), (logits - exact).abs().max()
        print(
            f"{name}: largest |logit| {logits.abs().max():.3f}, between the two images {between:.3f}, "
            f"f32 against f64 {rounding:.2e}"
        )
        tensors[name] = logits.numpy()
    write(out / "hashed_networks.safetensors", tensors, {"inputs": ["input0", "input1"], "size": 224})


def digits(weights, out):
    """Logits of the shipped networks on the first 64 held-out digits."""
    data = load_file(weights / "digits.safetensors")
    images, tensors = data["images"].numpy()[data["split"].numpy() == 1][:64], {}
    for kind in ("base", "collage"):
        path = weights / f"digits-{kind}.safetensors"
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["collage"])
        p, grids = about["preprocessing"], about.get("collage")
        model = ResNet(about["architecture"], len(about["classes"]), p["size"] // grids["stride"] if grids else None)
        model.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
        x = normalised(resized(images, p["size"]), p["mean"][0], p["std"][0])
        with torch.no_grad():
            if kind == "base":
                tensors["base"] = model.eval()(x).numpy()
            for rows, cols in ((1, 1), (3, 3), (2, 5)) if grids else ():
                blank = torch.zeros(-len(x) % (rows * cols), *x.shape[1:])
                logits = model.eval()(canvases(torch.cat([x, blank]), rows, cols)).reshape(-1, 10)
                tensors[f"collage.{rows}x{cols}"] = logits[: len(x)].numpy()
    write(out / "digits.safetensors", tensors, {"images": len(images)})


def check_order_of_passes():
    """Pillow resized horizontally first until version 13, which shrinks images twice as tall as wide vertically first.

    The clamp between the passes makes that up to 22 of 255 different on hard edges. Goldens hold the older order, with
    which today's weights were trained.
    """
    column = Image.fromarray(hashing.image("97x301", 97, 301)).resize((32, 301), Image.Resampling.BICUBIC)
    both = Image.fromarray(hashing.image("97x301", 97, 301)).resize((32, 99), Image.Resampling.BICUBIC)
    if column.resize((32, 99), Image.Resampling.BICUBIC).tobytes() != both.tobytes():
        raise SystemExit("this Pillow resizes tall images vertically first; install the one of requirements.txt")


def cropped(image, name, resize, size):
    """torchvision's Resize and CenterCrop of a PIL image: u8 (size, size) or (size, size, 3)."""
    return np.asarray(CenterCrop(size)(Resize(resize, FILTERS[name])(image)))


def pillow_hashed(out):
    """Pillow's resize and torchvision's crop of hash-made images."""
    tensors, cases = {}, []
    for width, height in SIZES:
        name = f"{width}x{height}"
        pixels, grey = hashing.image(name, width, height), (width, height) == GREY
        source = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0])) if grey else Image.fromarray(pixels)
        for filter_name in FILTERS:
            for resize, size in CROPS:
                result = cropped(source, filter_name, resize, size)
                key, step = f"{name}.{filter_name}.{resize}.{size}", 1 if size <= WHOLE else ROW_STEP
                tensors[key] = result[::step]
                case = {"key": key, "image": name, "width": width, "height": height, "grey": grey}
                case |= {"filter": filter_name, "resize": resize, "size": size, "row_step": step}
                cases.append(case | {"sha256": hashlib.sha256(result.tobytes()).hexdigest()})
    write(out / "pillow_hashed.safetensors", tensors, {"cases": cases})


def decoded(path):
    """A photograph as Pillow decodes it: upright RGB."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def pillow_photographs(shared, out):
    """Pillow's 32x32 of the photographs, from Pillow's own decoding of them, and some of the decoded pixels."""
    tensors, photographs = {}, []
    for path in sorted((shared / "imagenet-sample").glob("*.JPEG")):
        image = decoded(path)
        pixels = np.asarray(image).reshape(-1, 3)
        at = hashing.hashes(path.name, SAMPLES) % np.uint32(len(pixels))
        tensors[f"{path.name}.pixels"] = pixels[at]
        for filter_name in FILTERS:
            tensors[f"{path.name}.{filter_name}"] = cropped(image, filter_name, 32, 32)
        about = {"file": path.name, "width": image.width, "height": image.height}
        about["file_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        photographs.append(about | {"decoded_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()})
    write(out / "pillow_photographs.safetensors", tensors, {"resize": 32, "size": 32, "photographs": photographs})


def export_photographs(shared, target):
    """PNG copies, so that other decoders' differences do not matter. Not to be committed."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((shared / "imagenet-sample").glob("*.JPEG")):
        decoded(path).save(target / f"{path.stem}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with cifar-10, third-party-weights, imagenet-sample")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "tests/golden")
    parser.add_argument("--photographs", type=Path, help="only write PNG copies of the photographs there")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.photographs:
        if not args.shared:
            parser.error("--photographs needs --shared")
        return export_photographs(args.shared, args.photographs)
    check_order_of_passes()
    args.out.mkdir(parents=True, exist_ok=True)
    hashed_networks(args.out)
    digits(Path(__file__).parents[1], args.out)
    pillow_hashed(args.out)
    if args.shared:
        third_party(args.shared, args.out)
        pillow_photographs(args.shared, args.out)
    else:
        print("skipped: third_party and pillow_photographs need --shared")


if __name__ == "__main__":
    main()
