#!/usr/bin/env python3
"""One table of a run of benches/gpu/measure: ours, PyTorch's best, their ratio, and what of the device's ceilings that is.

    table.py RUN     prints it and writes RUN/table.md

Rows are only set beside each other within one folder, that is one device; which calls they are from, RUN/phases.txt says.
"""

import json
import pathlib
import sys


def load(run, pattern):
    return [json.loads(path.read_text()) for path in sorted(run.glob(pattern))]


def rows_of(reports, key):
    return [row for report in reports for row in report.get(key) or []]


def markdown(head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    line = lambda row: "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |"
    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def figure(value, digits=4):
    """So many significant digits, without exponents."""
    if value is None:
        return ""
    return f"{value:,.{max(0, digits - len(str(int(abs(value)))) + (abs(value) < 1))}f}"


def share(value, ceiling):
    return f"{100 * value / ceiling:.1f}%" if value is not None and ceiling else ""


def networks(ours, theirs, ceilings):
    peers = {(r["network"], r["dtype"], r["batch"]): r for r in rows_of(theirs, "rows") if "best" in r}
    rows = []
    for r in rows_of(ours, "rows"):
        if r["basis"] != "resident" and peers.get((r["network"], r["dtype"], r["batch"])) is None:
            continue
        peer = peers.get((r["network"], r["dtype"], r["batch"]))
        time = r["resident_ms"] or r["compute_ms"] or r["latency_ms"]
        single = r["compute_ms"] or r["latency_ms"]
        rows.append([
            r["network"], r["dtype"], r["batch"], figure(time["median"]), figure(peer and peer["ms"]),
            peer["best"] if peer else "", f"{peer['ms'] / time['median']:.2f}" if peer else "",
            figure(r["images_per_s"], 6), figure(r["tflops"]), share(r["tflops"], ceilings.get(r["dtype"] + "_tflops")),
            figure(r["gb_per_s"]), share(r["gb_per_s"], ceilings.get("copy_gb_per_s")),
            f"{figure(single['median'])} / {figure(single['p99'])}", " ".join(w.split()[0] for w in r["warnings"]) and "!",
        ])
    head = ["network", "dtype", "batch", "ours, ms", "PyTorch's best, ms", "its mode", "times as fast", "images/s", "TFLOP/s",
            "of product", "GB/s", "of copy", "one run p50 / p99, ms", ""]
    return markdown(head, rows) if rows else "nothing measured yet"


def end_to_end(ours):
    rows = [[r["network"], r["dtype"], r["batch"], figure(r["images"] / r["latency_ms"]["median"] * 1e3, 6)]
            + [figure(r[part] and r[part]["median"]) for part in
               ("latency_ms", "enqueue_ms", "upload_ms", "compute_ms", "download_ms")]
            + [figure(r["latency_ms"]["p99"])] for r in rows_of(ours, "rows")]
    head = ["network", "dtype", "batch", "images/s", "latency, ms", "enqueue", "upload", "compute", "download", "p99"]
    return markdown(head, rows)


def layers(ours, theirs):
    key = lambda l: (l["network"], l["dtype"], l["batch"], *l["input"], *l["output"], *l["kernel"], l["stride"])
    peers = {key(l): l for l in rows_of(theirs, "layers")}
    rows = []
    for l in rows_of(ours, "layers"):
        peer = peers.get(key(l), {})
        best = min((peer[k] for k in ("ms", "fused_ms") if peer.get(k)), default=None)
        rows.append([
            l["network"], l["batch"], l["name"], l["count"], "x".join(map(str, l["input"])), "x".join(map(str, l["output"])),
            f"{l['kernel'][0]}x{l['kernel'][1]} /{l['stride']}", l["by"], figure(l["ms"] * 1e3), figure(l["tflops"]),
            figure(peer["ms"] * 1e3) if peer.get("ms") else "", figure(peer["fused_ms"] * 1e3) if peer.get("fused_ms") else "",
            f"{best / l['ms']:.2f}" if best else "",
        ])
    head = ["network", "batch", "layer", "times", "input", "output", "window", "ours by", "ours, us", "TFLOP/s", "cuDNN alone, us",
            "cuDNN with bias and ReLU, us", "times as fast"]
    return markdown(head, rows)


def main():
    run = pathlib.Path(sys.argv[1])
    ours = load(run, "engine-*.json")
    images = load(run, "engine-*-images.json")
    tensors = [report for report in ours if report not in images]
    theirs = load(run, "pytorch-*.json")
    ceilings = {}
    for report in theirs:
        ceilings.update(report["ceilings"])
    device = next((r["device"] for r in ours), "no device measured yet")
    versions = next((r["versions"] for r in theirs), {})
    text = [f"# {device}", "", f"PyTorch: {versions}. Ceilings, measured: {ceilings}.", "",
            "Input and weights on the device; many runs back to back, the median of blocks. Of the modes of PyTorch that were",
            "tried the fastest counts. The last columns are of runs one at a time; ! marks unstable times.", "",
            networks(tensors, theirs, ceilings)]
    if rows_of(images, "rows"):
        text += ["", "From images in host memory to classes in host memory, medians:", "", end_to_end(images)]
    if rows_of(ours, "layers"):
        text += ["", "Each distinct convolution (ours with bias and activation):", "", layers(ours, theirs)]
    for row in rows_of(ours, "together"):
        text += ["", f"{row['base']} and {row['collage']}, {row['dtype']}, batch {row['batch']}: side by side they take "
                 f"{row['cost']:.3f} of the sum of both alone."]
    for row in rows_of(ours, "soak"):
        text += ["", f"Soak: {row['network']}, {row['dtype']}, batch {row['batch']}: {row['runs']} runs, {row['wrong']} wrong."]
    for name in ("failures.txt", "left-out.txt"):
        if (run / name).exists():
            text += ["", f"{name}:", "", "```", (run / name).read_text().rstrip(), "```"]
    for report in theirs:
        text += [f"\nPyTorch, failed: {line}" for line in report["failed"]]
        text += [f"\nPyTorch, out of time: {line}" for line in report["skipped"]]
    (run / "table.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
