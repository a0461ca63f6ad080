#!/usr/bin/env python3
"""Drives collage by MLPerf's LoadGen, and prints LoadGen's own verdict.

    pip install ./python -r benches/loadgen/requirements.txt
    python benches/loadgen/loadgen.py                                  # all scenarios, the embedded digits: 40 minutes
    python benches/loadgen/loadgen.py --scenario Server --qps 200
    python benches/loadgen/loadgen.py --accuracy                       # every image once, against `collage eval`
    python benches/loadgen/loadgen.py --name resnet32 --model resnet32.safetensors --arch resnet32 --data cifar-10-batches-bin

LoadGen's defaults hold: a run counts as VALID after 600 s and as many queries as its mlperf.conf asks for. user.conf, beside
this file, has what MLPerf leaves to the user, under the name that --name gives; --qps and --latency-ms go before it.
The exit status is 1 if a run is INVALID, if a request failed, or if the answers are less accurate than 99% of the reference.
"""

from __future__ import annotations

import argparse
import array
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import collage
import data
import mlperf_loadgen
import verdict

HERE = Path(__file__).resolve().parent
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
#: The settings that --latency-ms and --qps stand for.
LATENCIES = {
    "SingleStream": "single_stream_expected_latency_ns",
    "MultiStream": "multi_stream_expected_latency_ns",
    "Server": "server_target_latency_ns",
}
RATES = {"Server": "server_target_qps", "Offline": "offline_expected_qps"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scenario", choices=SCENARIOS, action="append", help="may repeat (default: all four, one after the other)")
    add("--accuracy", action="store_true", help="accuracy mode: every image once")
    add("--qps", type=float, help="Server: the rate; Offline: the rate that is expected")
    add("--latency-ms", type=float, help="Server: the bound; SingleStream, MultiStream: the latency that is expected")
    add("--min-duration-s", type=float, help="shorter than LoadGen's default: a smoke test, and said to be one")
    add("--name", default="digits", help="the model's name in user.conf")
    add("--model", type=Path, help="a base model's file (default: the embedded digits)")
    add("--arch", help="its architecture, if the file does not say")
    add("--collage", type=Path, help="a collage model's file")
    add("--data", type=Path, help="a CIFAR-10 binary file, the folder of one, or a folder of class folders")
    add("--device", default="cpu:1", help="default: cpu:1")
    add("--workers", type=int, help="workers for base runs")
    add("--policy", help="such as collage:3x3:lazy or hedge:p95 (default: the engine's; in Offline, where nothing is late, none)")
    add("--release-ms", type=float, help="from then on a collage may answer")
    add("--deadline-s", type=float, default=30.0, help="of a request: one that fails fails the run (default: 30)")
    add("--in-flight", type=int, default=64, help="most images in the engine at once (default: 64)")
    add("--program", help="collage's program, for --accuracy's reference (default: COLLAGE_PROGRAM, PATH, target/)")
    add("--out", type=Path, default=data.ROOT / "target" / "loadgen", help="where the logs go (default: target/loadgen)")
    return parser.parse_args()


@dataclass
class System:
    """The system under test: LoadGen's queries to the engine's tickets, and back."""

    engine: collage.Engine
    samples: data.Samples
    in_flight: int
    failures: list[str] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # LoadGen may ask for more at once than the engine's queue holds, all of it in Offline. What waits here waits on
        # LoadGen's clock, which runs from when the query was due.
        self.room = threading.Semaphore(self.in_flight)

    def issue(self, queries: list[Any]) -> None:
        for query in queries:
            self.room.acquire()
            try:
                ticket = self.engine.submit(self.samples.loaded[query.index], layout=self.samples.layout)
            except collage.CollageError as error:
                self.settle(query.id, -1, error)
            else:
                ticket.add_done_callback(functools.partial(self.answered, query.id))

    def answered(self, query: int, ticket: Future[collage.Answer]) -> None:
        error = ticket.exception()
        if error is not None:
            self.settle(query, -1, error)
            return
        answer = ticket.result()
        self.sources[answer.source] = self.sources.get(answer.source, 0) + 1
        self.settle(query, answer.class_index, None)

    def settle(self, query: int, class_index: int, error: BaseException | None) -> None:
        """LoadGen has no word for a failure: it is told of an answer that is wrong, and the run fails afterwards."""
        if error is not None:
            self.failures.append(str(error))
        self.room.release()
        response = array.array("i", [class_index])  # LoadGen copies it during the call
        address, _ = response.buffer_info()
        mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(query, address, response.itemsize)])


def test_settings(given: argparse.Namespace, scenario: str) -> Any:
    """LoadGen's mlperf.conf, then user.conf, then the command line."""
    settings = mlperf_loadgen.TestSettings()
    if settings.FromConfig(str(HERE / "user.conf"), given.name, scenario) != 0:
        raise SystemExit(f"LoadGen does not read {HERE / 'user.conf'}")
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    modes = mlperf_loadgen.TestMode
    settings.mode = modes.AccuracyOnly if given.accuracy else modes.PerformanceOnly
    if given.latency_ms is not None and scenario in LATENCIES:
        setattr(settings, LATENCIES[scenario], round(given.latency_ms * 1e6))
    if given.qps is not None and scenario in RATES:
        setattr(settings, RATES[scenario], given.qps)
    if given.min_duration_s is not None:
        settings.min_duration_ms = round(given.min_duration_s * 1000)
    return settings


def run(given: argparse.Namespace, scenario: str, system: System) -> Path:
    """One run of LoadGen. Returns the folder of its logs."""
    folder: Path = given.out / f"{given.name}-{scenario}{'-accuracy' if given.accuracy else ''}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = str(folder)
    log = mlperf_loadgen.LogSettings()
    log.log_output, log.enable_trace = output, False
    count = len(system.samples)
    library = mlperf_loadgen.ConstructQSL(count, count, system.samples.load, system.samples.unload)
    sut = mlperf_loadgen.ConstructSUT(system.issue, lambda: None)
    try:
        mlperf_loadgen.StartTestWithLogSettings(sut, library, test_settings(given, scenario), log)
    finally:
        mlperf_loadgen.DestroySUT(sut)
        mlperf_loadgen.DestroyQSL(library)
    return folder


def performance(given: argparse.Namespace, scenario: str, system: System, folder: Path) -> tuple[dict[str, str], bool]:
    """A row of the table, and whether the run counts."""
    summary = verdict.Summary.read(folder)
    default_ms = mlperf_default_ms(given.name, scenario)
    shortened = summary.min_duration_ms < default_ms
    stats = system.engine.stats()
    row = {
        "scenario": scenario,
        "LoadGen says": summary.fields.get("Result is", "nothing") + (" (SHORTENED: no result)" if shortened else ""),
        "result": summary.headline(scenario),
        "p99": summary.p99_ms(),
        "min duration": f"{summary.min_duration_ms / 1000:g} s, satisfied: {summary.fields.get('Min duration satisfied')}",
        "min queries": f"{summary.fields['min_query_count']}, satisfied: {summary.fields.get('Min queries satisfied')}",
        "early stopping": summary.fields.get("Early stopping satisfied", "-"),
        "samples": str(sum(system.sources.values())),
        "by collage": str(stats["collage"]),
        "failed": str(len(system.failures)),
        "errors in LoadGen's log": summary.errors,
    }
    return row, summary.valid and not system.failures


def mlperf_default_ms(name: str, scenario: str) -> int:
    """The minimum duration of LoadGen's own mlperf.conf, with nothing of ours."""
    settings = mlperf_loadgen.TestSettings()
    settings.FromConfig(os.devnull, name, scenario)
    return int(settings.min_duration_ms)


def accuracy(scenario: str, system: System, folder: Path, reference: int) -> tuple[dict[str, str], bool]:
    """A row of the table, and whether the answers are as accurate as MLPerf asks."""
    answers = verdict.accuracy_log(folder)
    total, right = len(system.samples), verdict.correct(answers, system.samples.classes)
    enough = len(answers) == total and right >= verdict.ACCURACY_SHARE * reference
    row = {
        "scenario": scenario,
        "answered": f"{len(answers)} of {total}",
        "correct": str(right),
        "accuracy": f"{right / total:.4f}",
        "reference (collage eval)": f"{reference} correct, {reference / total:.4f}",
        "at least 99% of it": "yes" if enough else "NO",
        "by collage": str(system.sources.get("collage", 0)),
        "failed": str(len(system.failures)),
    }
    return row, enough and not system.failures


def reference_correct(given: argparse.Namespace, total: int) -> int:
    """How many images the base model alone gets right, as `collage eval` counts."""
    built = [data.ROOT / "target" / profile / "collage" for profile in ("release", "debug")]
    program = given.program or os.environ.get("COLLAGE_PROGRAM") or shutil.which("collage")
    program = program or next((str(path) for path in built if path.is_file()), None)
    if program is None:
        raise SystemExit("--accuracy needs collage's program for its reference; name it by --program")
    command = [program, "--json", "eval", "--device", given.device]
    for flag in ("model", "arch", "data"):
        if getattr(given, flag) is not None:
            command += [f"--{flag}", str(getattr(given, flag))]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if report["images"] != total:
        raise SystemExit(f"`collage eval` saw {report['images']} images, LoadGen {total}: the data are not the same")
    return int(report["base"]["correct"])


def versions() -> str:
    """What ran, for the record."""
    commit = subprocess.run(["git", "-C", str(data.ROOT), "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True)
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("mlcommons_loadgen", "numpy"))
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"collage {collage.__version__} (commit {commit.stdout.strip() or 'unknown'}), {packages}, "
        f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs, load {load}"
    )


def open_engine(given: argparse.Namespace, scenario: str) -> collage.Engine:
    """The engine with the settings of the command line."""
    policy = given.policy or ("none" if scenario == "Offline" or given.model and not given.collage else None)
    release = None if given.release_ms is None else given.release_ms / 1000
    return collage.Engine(
        given.model, arch=given.arch, collage=given.collage, device=given.device, workers=given.workers,
        policy=policy, release=release, deadline=given.deadline_s,
    )  # fmt: skip


def main() -> int:
    given = arguments()
    if (given.model is None) != (given.data is None):
        raise SystemExit("--model and --data go together: the embedded digits are for the embedded model")
    rows, good, record = [], True, versions()
    reference: int | None = None
    for scenario in given.scenario or SCENARIOS:
        with open_engine(given, scenario) as engine:
            samples = data.open_samples(given.data, engine.labels)
            system = System(engine, samples, given.in_flight)
            folder = run(given, scenario, system)
            if given.accuracy:
                reference = reference_correct(given, len(samples)) if reference is None else reference
                row, counts = accuracy(scenario, system, folder, reference)
            else:
                row, counts = performance(given, scenario, system, folder)
        for failure in system.failures[:3]:
            print(f"{scenario}: a request failed: {failure}", file=sys.stderr)
        rows.append(row)
        good &= counts
        (folder / "verdict.md").write_text(f"`{' '.join(sys.argv)}`\n\n{record}\n\n{verdict.table([row])}\n")
    print(record)
    print(verdict.table(rows))
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except collage.CollageError as error:
        sys.exit(str(error))
