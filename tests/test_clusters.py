"""The files of docs/clusters: Slurm and Kubernetes accept them, and their mnas commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from mnas.cli.app import app

FOLDER = Path(__file__).parent.parent / "docs" / "clusters"
BATCH = sorted(FOLDER.glob("*.sbatch"))
JOBS = [job for path in sorted(FOLDER.glob("*.yaml")) for job in yaml.safe_load_all(path.read_text())]
SBATCH = {
    "account", "array", "constraint", "cpus-per-task", "error", "exclusive", "gpus", "gpus-per-node", "gres",
    "job-name", "mail-type", "mail-user", "mem", "mem-per-cpu", "nodes", "ntasks", "ntasks-per-node", "open-mode",
    "output", "partition", "qos", "requeue", "signal", "time",
}  # fmt: skip
"""Options of sbatch (https://slurm.schedmd.com/sbatch.html)."""
KUBERNETES = "1.30"


@pytest.mark.parametrize("path", BATCH, ids=lambda path: path.name)
def test_slurm_takes_the_script(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    keys = [re.match(r"#SBATCH --([a-z-]+)(=\S+)?$", line) for line in lines if line.startswith("#SBATCH")]
    assert len(keys) > 5 and all(key is not None and key[1] in SBATCH for key in keys)
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first_command:] if line.startswith("#SBATCH")], "sbatch ignores these"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job["metadata"]["name"]))
def test_kubernetes_takes_the_manifest(job: dict[str, Any]) -> None:
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert not [variable for variable in container["env"] if "PASSWORD" in str(variable)]
    wrong = job | {"spec": job["spec"] | {"parallel": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def commands() -> list[list[str]]:
    """The words of every mnas command in the files."""
    texts = [path.read_text() for path in BATCH]
    for job in JOBS:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        texts.append(" ".join([*container["command"], *container.get("args", [])]))
    plain = "\n".join(texts).replace("\\\n", " ")
    found = re.findall(r"^(?!#).*?\bmnas ((?:search|resume|worker)\b[^;\n]*)", plain, re.MULTILINE)
    found += re.findall(r"; exec mnas ((?:search|resume|worker)\b[^;\n]*)", plain)
    return [shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)) for text in found]


def test_the_commands_exist() -> None:
    assert {words[0] for words in commands()} == {"search", "resume", "worker"}
    for name, *rest in commands():
        options = {option for one in get_command(app).commands[name].params for option in one.opts}  # type: ignore[attr-defined]
        assert {word for word in rest if word.startswith("--")} <= options, (name, rest)
