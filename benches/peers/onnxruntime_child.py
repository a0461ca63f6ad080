"""onnxruntime, and Pillow for the cases that start from images, served to the peers harness over stdin and stdout.

The protocol is described in src/child.rs. What is timed is what the harness times of its Rust peers: from the input in
host memory to the output in host memory.
"""

import json
import os
import sys
import time

import numpy as np
import onnxruntime
from PIL import Image
from PIL import __version__ as pillow_version


def load_network(request):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(request["onnx"], options, providers=["CPUExecutionProvider"])
    x = np.fromfile(request["input"], np.float32).reshape(request["shape"])
    return lambda: session.run(["y"], {"x": x})[0]


def load_encode(request):
    pixels, images, at = np.fromfile(request["images"], np.uint8), [], 0
    for width, height in request["sizes"]:
        count = width * height * 3
        images.append(Image.fromarray(pixels[at : at + count].reshape(height, width, 3)))
        at += count
    size, rows, cols = request["size"], request["rows"], request["cols"]
    mean, std = np.float32(request["mean"]), np.float32(request["std"])

    def encode():
        canvas = np.zeros((1, rows * size, cols * size, 3), np.float32)
        for i, image in enumerate(images):
            row, col = i // cols * size, i % cols * size
            tile = np.asarray(crop(shrink(image, request["resize"]), size), np.float32)
            canvas[0, row : row + size, col : col + size] = (tile / 255 - mean) / std
        return canvas.transpose(0, 3, 1, 2)

    return encode


def shrink(image, side):
    """torchvision's Resize: the shorter side to `side`, the longer truncated."""
    width, height = image.size
    if width <= height:
        return image.resize((side, int(side * height / width)), Image.Resampling.BILINEAR)
    return image.resize((int(side * width / height), side), Image.Resampling.BILINEAR)


def crop(image, side):
    """torchvision's CenterCrop."""
    width, height = image.size
    left, top = int(round((width - side) / 2.0)), int(round((height - side) / 2.0))
    return image.crop((left, top, left + side, top + side))


def timed(run, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = None
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        try:
            if "hello" in request:
                answer["version"] = f"{onnxruntime.__version__} (encode: Pillow {pillow_version})"
            elif "load" in request:
                run = load_network(request["load"])
            elif "encode" in request:
                run = load_encode(request["encode"])
            elif "run" in request:
                np.ascontiguousarray(run(), np.float32).tofile(request["run"])
            elif "time" in request:
                answer["seconds"] = timed(run, request["time"])
            else:
                break
        except Exception as error:  # The harness shows it in the table.
            answer["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
