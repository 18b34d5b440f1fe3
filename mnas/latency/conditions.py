"""The conditions of a latency measurement: runtime, threads, batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """What executes a network, on how many threads, on how many images at once."""

    runtime: str
    threads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        """Such as 'onnxruntime, 2 threads, batch 1'."""
        return f"{self.runtime}, {self.threads} thread{'s' * (self.threads != 1)}, batch {self.batch}"

    @property
    def options(self) -> str:
        """The same as options of a command: '--runtime onnxruntime --threads 2 --batch 1'."""
        return f"--runtime {self.runtime} --threads {self.threads} --batch {self.batch}"
