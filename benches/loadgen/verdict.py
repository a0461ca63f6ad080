"""What LoadGen wrote: its own verdict, its figures, and in accuracy mode the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: The figure that MLPerf reports for a scenario, as the summary names it.
HEADLINES = {
    "SingleStream": "90.0th percentile latency (ns)",
    "MultiStream": "99.0th percentile latency (ns)",
    "Server": "Completed samples per second",
    "Offline": "Samples per second",
}
#: MLPerf's bound for most models: as accurate as 99% of the reference.
ACCURACY_SHARE = 0.99


@dataclass(frozen=True)
class Summary:
    """mlperf_log_summary.txt."""

    fields: dict[str, str]
    errors: str

    @staticmethod
    def read(folder: Path) -> Summary:
        text = (folder / "mlperf_log_summary.txt").read_text()
        fields: dict[str, str] = {}
        for line in text.splitlines():
            key, separator, value = line.partition(":")
            if separator:
                fields.setdefault(key.strip(), value.strip())
        errors = [line for line in text.splitlines() if "ERROR" in line.upper() and "encountered" in line]
        return Summary(fields, errors[-1] if errors else "no errors encountered")

    @property
    def valid(self) -> bool:
        return self.fields.get("Result is") == "VALID"

    @property
    def min_duration_ms(self) -> int:
        return int(self.fields["min_duration (ms)"])

    def headline(self, scenario: str) -> str:
        """The scenario's figure, with its unit."""
        name = HEADLINES[scenario]
        value = float(self.fields[name])
        if name.endswith("(ns)"):
            return f"{value / 1e6:.3f} ms at the {name.split('th')[0].removesuffix('.0')}th percentile"
        return f"{value:.1f} samples/s"

    def p99_ms(self) -> str:
        """Of a sample, whatever the scenario's own figure is."""
        return f"{float(self.fields['99.00 percentile latency (ns)']) / 1e6:.3f} ms"


def accuracy_log(folder: Path) -> dict[int, int]:
    """mlperf_log_accuracy.json: sample -> class that was answered."""
    answers: dict[int, int] = {}
    for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text()):
        data = bytes.fromhex(entry["data"])
        answers[entry["qsl_idx"]] = int.from_bytes(data, "little", signed=True)
    return answers


def correct(answers: dict[int, int], classes: Sequence[int]) -> int:
    """How many were answered rightly. Samples without an answer count as wrong."""
    return sum(answers.get(index) == expected for index, expected in enumerate(classes))


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows of the same keys, as Markdown."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(row[key] for key in keys) + " |" for row in rows]
    return "\n".join(lines)
