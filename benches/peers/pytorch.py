"""PyTorch at its best on the networks that `collage bench engine` measures: the peer on a GPU.

    python3 pytorch.py --out pytorch.json                        # everything, on the first GPU
    python3 pytorch.py --networks resnet50 --modes autotune      # a part
    python3 pytorch.py --device cpu --quick                      # that the script itself works

How it stays fair. Weights and inputs are random and on the device; batch normalisation is folded; tensors are channels
last in half precision; cuDNN picks its fastest algorithm by trying. A time is that of many runs back to back, between two
events, over the runs; of several such blocks the median counts, as in `collage bench engine`'s `resident`. `p50` and `p99`
are of runs one at a time. Building and tuning are not timed. Modes, of which the fastest counts:

    eager      torch's own calls
    graph      the same in one CUDA graph
    fused      cuDNN's convolutions with bias, addition and ReLU in one call, in one CUDA graph
    compile    torch.compile, in one CUDA graph
    autotune   torch.compile's max-autotune, in one CUDA graph

A convolution alone has its weights and its result at places of their own in each repetition, so that no cache has them from
the last; its input stays, since in a network it has just been written.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

MODES = ["eager", "graph", "fused", "compile", "autotune"]
NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet32", "collage 3x3", "collage 12x12"]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
BEYOND_CACHES = 128 << 20  # bytes of weights and results of a repeated convolution
MOST = 16  # repetitions


class Conv(nn.Module):
    """A convolution with its bias, to which batch normalisation has been folded, then what is added, then ReLU."""

    fused = False  # by cuDNN in one call

    def __init__(self, inputs, outputs, kernel, stride=1, relu=True):
        super().__init__()
        self.stride, self.padding, self.relu = stride, kernel // 2, relu
        scale = (6.0 / (inputs * kernel * kernel)) ** 0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel).uniform_(-scale, scale))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-0.1, 0.1))

    def forward(self, x, add=None):
        if Conv.fused and self.relu:
            s, p = [self.stride] * 2, [self.padding] * 2
            if add is None:
                return torch.cudnn_convolution_relu(x, self.weight, self.bias, s, p, [1, 1], 1)
            return torch.cudnn_convolution_add_relu(x, self.weight, add, 1.0, self.bias, s, p, [1, 1], 1)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if add is not None:
            y = y + add
        return F.relu(y) if self.relu else y


class Block(nn.Module):
    """Basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1); the shortcut is a projection, or padding with zeros (option A)."""

    def __init__(self, inputs, channels, stride, bottleneck, pad):
        super().__init__()
        outputs = 4 * channels if bottleneck else channels
        if bottleneck:
            self.body = nn.Sequential(Conv(inputs, channels, 1), Conv(channels, channels, 3, stride))
            self.last = Conv(channels, outputs, 1)
        else:
            self.body = nn.Sequential(Conv(inputs, channels, 3, stride))
            self.last = Conv(channels, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.projection = Conv(inputs, outputs, 1, stride, relu=False) if changes and not pad else None
        self.padding = (outputs - inputs) // 2 if changes and pad else None
        self.stride = stride

    def forward(self, x):
        shortcut = x
        if self.projection is not None:
            shortcut = self.projection(x)
        elif self.padding is not None:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return self.last(self.body(x), shortcut)


class ResNet(nn.Module):
    """Logits of an image, or of each tile of a canvas: (N, rows, cols, classes)."""

    def __init__(self, stem, pool, stages, classes, cells, bottleneck=False, pad=False):
        super().__init__()
        layers, channels = [Conv(*stem)], stem[1]
        if pool:
            layers.append(nn.MaxPool2d(3, 2, 1))
        for blocks, width, stride in stages:
            for i in range(blocks):
                layers.append(Block(channels, width, stride if i == 0 else 1, bottleneck, pad))
                channels = 4 * width if bottleneck else width
        self.trunk, self.cells = nn.Sequential(*layers), cells
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(F.avg_pool2d(self.trunk(x), self.cells).permute(0, 2, 3, 1))


def network(name):
    """The network, the side of its input, and the images of one canvas."""
    if name.startswith("collage"):
        rows = int(name.split()[1].split("x")[0])
        trunk = ResNet((3, 16, 3), False, [(2, 16, 1), (2, 32, 2), (2, 64, 2)], 10, 8)
        return trunk, 32 * rows, rows * rows
    if name == "resnet32":
        return ResNet((3, 16, 3), False, [(5, 16, 1), (5, 32, 2), (5, 64, 2)], 10, 8, pad=True), 32, 1
    blocks = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}[name]
    stages = list(zip(blocks, (64, 128, 256, 512), (1, 2, 2, 2)))
    return ResNet((3, 64, 7, 2), True, stages, 1000, 7, bottleneck=name == "resnet50"), 224, 1


class Clock:
    """Times of device work: between events on a GPU, by the host's clock on a CPU."""

    def __init__(self, device, seconds):
        self.gpu, self.seconds = device == "cuda", seconds

    def block(self, run, times):
        """Seconds of so many runs back to back."""
        if not self.gpu:
            begin = time.perf_counter()
            for _ in range(times):
                run()
            return time.perf_counter() - begin
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def measure(self, run):
        """Milliseconds of a run: the median of blocks, and of single runs p50 and p99."""
        begin = time.perf_counter()
        while self.block(run, 1) and time.perf_counter() - begin < self.seconds / 5:
            pass  # warming up: clocks, caches, allocations
        times = max(1, min(1000, int(0.01 / max(self.block(run, 1), 1e-7))))
        blocks = self.repeat(lambda: self.block(run, times) / times, 5)
        singles = self.repeat(lambda: self.block(run, 1), 20)
        ms = lambda seconds: round(seconds * 1e3, 6)
        return {
            "ms": ms(statistics.median(blocks)),
            "variation": round(statistics.pstdev(blocks) / statistics.mean(blocks), 4),
            "p50_ms": ms(statistics.median(singles)),
            "p99_ms": ms(sorted(singles)[int(0.99 * (len(singles) - 1))]),
        }

    def repeat(self, one, least):
        begin, found = time.perf_counter(), []
        while len(found) < least or time.perf_counter() - begin < self.seconds / 2:
            found.append(one())
        return found


def captured(run):
    """The run as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()  # what it allocates is the graph's own, also after this
    return graph.replay


def prepared(model, x, mode, gpu):
    """A function that runs the model once in this mode, and what the model gives in it."""
    called = model
    if mode in ("compile", "autotune"):
        torch._dynamo.reset()
        kind = {"compile": "default", "autotune": "max-autotune-no-cudagraphs"}[mode]
        called = torch.compile(model, mode=kind, fullgraph=True, dynamic=False)
    Conv.fused = mode == "fused"
    try:
        run = lambda: called(x)
        found = run().clone()
        return (captured(run) if gpu and mode != "eager" else run), found
    finally:
        Conv.fused = False


def agreement(expected, found):
    """Largest difference over the largest value: a mode that computes something else is not measured."""
    expected, found = expected.float(), found.float()
    return ((expected - found).abs().max() / expected.abs().max()).item()


def measure_networks(o, clock, report):
    for name in o.networks:
        model, side, tiles = network(name)
        for dtype in o.dtype:
            model = model.to(o.device, DTYPES[dtype]).to(memory_format=torch.channels_last).eval()
            for batch in o.batch:
                x = torch.randn(batch, 3, side, side, device=o.device, dtype=DTYPES[dtype])
                x = x.contiguous(memory_format=torch.channels_last)
                row = {"network": name, "dtype": dtype, "batch": batch, "images": batch * tiles, "modes": {}}
                report["rows"].append(row)
                expected = model(x)
                for mode in o.modes:
                    what = f"{name}, {dtype}, batch {batch}, {mode}"
                    if out_of_time(o, report, what):
                        continue
                    try:
                        run, found = prepared(model, x, mode, clock.gpu)
                        error = agreement(expected, found)
                        if not error < 0.05:
                            raise RuntimeError(f"computes something else: relative error {error:.1e}")
                        row["modes"][mode] = clock.measure(run)
                        say(f"{what}: {row['modes'][mode]['ms']:.4f} ms")
                    except Exception as error:  # one mode that fails must not cost the others
                        failed(report, what, error)
                if row["modes"]:
                    row["best"] = min(row["modes"], key=lambda mode: row["modes"][mode]["ms"])
                    row["ms"] = row["modes"][row["best"]]["ms"]
                    row["images_per_s"] = round(row["images"] / row["ms"] * 1e3, 1)
                save(o, report)


def shapes(model, x):
    """Every distinct convolution of the model: input (N, C, H, W), its module, and how often."""
    found = {}

    def see(module, inputs, output):
        key = (tuple(inputs[0].shape), tuple(module.weight.shape), module.stride, module.padding)
        found.setdefault(key, [module, 0])[1] += 1

    hooks = [m.register_forward_hook(see) for m in model.modules() if isinstance(m, Conv)]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def measure_layers(o, clock, report):
    for name in o.networks:
        for dtype in o.dtype:
            for batch in o.layer_batch:
                model, side, _ = network(name)
                model = model.to(o.device, DTYPES[dtype]).to(memory_format=torch.channels_last).eval()
                x = torch.randn(batch, 3, side, side, device=o.device, dtype=DTYPES[dtype])
                found = shapes(model, x.contiguous(memory_format=torch.channels_last))
                for (shape, weight, stride, padding), (module, count) in found.items():
                    what = f"{name}, {dtype}, batch {batch}, {shape} by {weight}"
                    if not out_of_time(o, report, what):
                        layer = measure_layer(o, clock, report, what, shape, module, DTYPES[dtype])
                        layer.update(network=name, dtype=dtype, batch=batch, count=count)
                        report["layers"].append(layer)
                save(o, report)


def measure_layer(o, clock, report, what, shape, module, dtype):
    x = torch.rand(shape, device=o.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    w, b, s, p = module.weight, module.bias, module.stride, module.padding
    y = F.conv2d(x, w, None, s, p)
    bytes_each = (y.numel() + w.numel()) * y.element_size()
    times = max(1, min(MOST, -(-BEYOND_CACHES // bytes_each)))
    weights = [w.detach().clone(memory_format=torch.preserve_format) for _ in range(times)]
    nhwc = lambda t: [t[0], t[2], t[3], t[1]]
    macs = y.numel() * w[0].numel()
    layer = {"input": nhwc(shape), "output": nhwc(y.shape), "kernel": list(w.shape[2:]), "stride": s, "padding": p}
    runs = {
        "ms": lambda: [F.conv2d(x, each, None, s, p) for each in weights],
        "fused_ms": lambda: [torch.cudnn_convolution_relu(x, each, b, [s, s], [p, p], [1, 1], 1) for each in weights],
    }
    for key, run in runs.items():
        if key == "fused_ms" and not clock.gpu:
            continue
        try:
            layer[key] = clock.measure(captured(run) if clock.gpu else run)["ms"] / times
        except Exception as error:
            failed(report, f"{what}, {key}", error)
    if "ms" in layer:
        layer["tflops"] = 2 * macs / layer["ms"] / 1e9
        say(f"{what}: {layer['ms'] * 1e3:.1f} us, {layer['tflops']:.1f} TFLOP/s")
    return layer


def measure_ceilings(o, clock, report):
    """A large product of random matrices in each type, and a large copy in device memory."""
    side = 256 if o.quick else 8192
    for name in DTYPES if clock.gpu else ["f32"]:
        a, b = (torch.randn(side, side, device=o.device, dtype=DTYPES[name]) for _ in range(2))
        out = torch.empty_like(a)
        time_ms = clock.measure(lambda: torch.mm(a, b, out=out))["ms"]
        report["ceilings"][f"{name}_tflops"] = round(2 * side**3 / time_ms / 1e9, 4)
    count = (1 << 20) if o.quick else (1 << 30)
    source = torch.randint(0, 255, (count,), device=o.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    time_ms = clock.measure(lambda: target.copy_(source))["ms"]
    report["ceilings"]["copy_gb_per_s"] = round(2 * count / time_ms / 1e6, 1)
    say(f"ceilings: {report['ceilings']}")
    save(o, report)


def out_of_time(o, report, what):
    if time.monotonic() < o.deadline:
        return False
    report["skipped"].append(what)
    return True


def failed(report, what, error):
    report["failed"].append(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")
    say("FAILED " + report["failed"][-1])


def say(line):
    print(line, file=sys.stderr, flush=True)


def save(o, report):
    """After every step, so that a run that is cut short leaves what it has."""
    if o.out:
        with open(o.out + ".part", "w") as file:
            json.dump(report, file, indent=1)
        os.replace(o.out + ".part", o.out)


def options():
    words = lambda text: text.split(",")
    numbers = lambda text: [int(part) for part in text.split(",")]
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--networks", type=words, default=NETWORKS)
    p.add_argument("--batch", type=numbers, default=[1, 8, 32, 256])
    p.add_argument("--layer-batch", type=numbers, default=[32])
    p.add_argument("--dtype", type=words, default=["f16"])
    p.add_argument("--modes", type=words, default=MODES)
    p.add_argument("--parts", type=words, default=["ceilings", "networks", "layers"])
    p.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    p.add_argument("--budget", type=float, default=540, help="seconds after which nothing new is begun")
    p.add_argument("--quick", action="store_true", help="tiny, to see that everything works")
    p.add_argument("--out", help="JSON file; also written while running")
    o = p.parse_args()
    o.deadline = time.monotonic() + o.budget
    if o.device == "cpu":
        o.dtype, o.modes = ["f32"], [m for m in o.modes if m in ("eager", "compile")]
    if o.quick:
        o.networks, o.batch, o.layer_batch, o.seconds = ["resnet32", "collage 3x3"], [1, 2], [1], 0.05
    return o


def versions(o):
    found = {"torch": torch.__version__, "python": platform.python_version(), "device": platform.processor()}
    if o.device == "cuda":
        found["device"] = torch.cuda.get_device_name(0)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        try:
            query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
            found["driver_and_clocks"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        except OSError:
            pass
    return found


def main():
    o = options()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # f32 is f32
    report = {"versions": versions(o), "command": sys.argv, "ceilings": {}, "rows": [], "layers": []}
    report.update(skipped=[], failed=[])
    clock = Clock(o.device, o.seconds)
    parts = {"ceilings": measure_ceilings, "networks": measure_networks, "layers": measure_layers}
    with torch.inference_mode():
        for part in o.parts:
            parts[part](o, clock, report)
    save(o, report)
    if not o.out:
        json.dump(report, sys.stdout, indent=1)
    return 1 if report["failed"] and not report["rows"] and not report["layers"] else 0


if __name__ == "__main__":
    sys.exit(main())
