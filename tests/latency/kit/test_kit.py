"""A kit measures where mnas is not installed; what it brings back is a table like those built here."""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_search import TINY_SPACE

import mnas
from mnas.cli import app as cli
from mnas.errors import BadInput, MissingDependency
from mnas.latency.conditions import Conditions
from mnas.latency.kit import kit as kits
from mnas.latency.kit.kit import RUNTIMES, import_results, make_kit, patterned
from mnas.latency.runtimes import dtype_of, get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.frame import frame
from mnas.latency.timing.quiet import usable_cores
from mnas.nn.network import Network
from mnas.space import zoo
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace, load_space

CLASSES = 10
PACKAGE = Path(mnas.__file__).parent


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    """At four sizes, so that the layers fill more than one section."""
    path = tmp_path_factory.mktemp("space") / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return load_space(str(path)).with_resolutions((32, 48, 64, 80))


def make(path: Path | str, space: SearchSpace, runtime: str = "onnxruntime") -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kits, "ROUNDS", 6)
        return make_kit(path, space, Conditions(runtime), num_classes=CLASSES, rng=random.Random(0), networks=4)


@pytest.fixture(scope="module")
def kit(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kit") / "kit.zip"
    make(path, space)
    return path


def requirements(name: str) -> set[str]:
    """A distribution and all that it needs, by name."""
    needed = [re.match(r"[\w.-]+", line) for line in metadata.requires(name) or () if "extra ==" not in line]
    return {name}.union(*(requirements(match.group().lower()) for match in needed if match))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a virtual environment that has onnxruntime and numpy, as they are installed here, and no more."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in requirements("onnxruntime") | requirements("numpy"):
        for file in metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(file.locate().resolve())
    return folder / "bin" / "python"


def run(python: Path | str, *words: str | Path, cwd: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """`python *words` in `cwd`, as the user runs a kit; `before` is shell."""
    command = ["bash", "-c", f'{before}exec "$0" "$@"', str(python), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=plain())


def plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def stop(python: Path, kit: Path, cwd: Path, how: signal.Signals, after: str) -> tuple[int, str]:
    """Starts the kit and stops it after a line that begins so: its exit status, what it said then."""
    began = subprocess.Popen(
        [python, kit], cwd=cwd, stderr=subprocess.PIPE, text=True, env=plain(),
        # whoever starts the tests in the background has them, and their children, ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert began.stderr is not None
    for line in began.stderr:
        if line.startswith(after):
            began.send_signal(how)
            break
    rest = began.communicate()[1]
    return began.returncode, rest


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def measured(kit: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole measurement, killed once and interrupted once."""
    folder = tmp_path_factory.mktemp("device")
    assert run(bare, "-c", "import mnas", cwd=folder).returncode == 1
    assert run(bare, "-c", "import torch", cwd=folder).returncode == 1

    assert stop(bare, kit, folder, signal.SIGKILL, "layers: ")[0] == -signal.SIGKILL
    first = results(folder)
    assert first["complete"] is False
    assert len(first["layer_ms"]) >= 100
    with pytest.raises(BadInput, match=r" \d+ of \d+ "):
        import_results(folder / "results.json")

    code, said = stop(bare, kit, folder, signal.SIGINT, "networks: ")
    assert code == 130
    assert re.fullmatch(r"interrupted: (\d+) of \1 layers and 0 of 4 networks .*\n", said)

    done = run(bare, kit, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "results.json: complete" in done.stderr
    assert "mnas latency import results.json" in done.stderr
    last = results(folder)
    assert last["complete"] is True
    assert {name: last["layer_ms"][name] for name in first["layer_ms"]} == first["layer_ms"], "measured twice"
    assert list(folder.iterdir()) == [folder / "results.json"]
    return folder


def test_a_kit_makes_a_table_like_one_built_here(measured: Path, space: SearchSpace, tmp_path: Path) -> None:
    there = import_results(measured / "results.json")
    assert not there.missing(space.layers(CLASSES))
    assert (there.origin, there.runtime, there.threads, there.batch) == ("imported", "onnxruntime", 1, 1)
    assert there.provenance.framed
    assert there.provenance.runtime_version == metadata.version("onnxruntime")
    assert there.calibration is not None
    assert there.calibration.anchors == (), "networks of another device cannot be measured again here"
    networks = there.calibration.networks
    assert networks.fitted == networks.held_out == 2
    assert networks.resolutions == (32, 48, 64, 80), "the space's, not those of a few networks"
    rng = random.Random(1)
    archs = [space.sample(rng) for _ in range(5)]
    layers = {layer for arch in archs for layer in arch.layers(CLASSES)}
    here = build_table(layers, Conditions("onnxruntime"), rng=rng, rounds=9)
    ratio = statistics.median(there.entries[layer] / here.entries[layer] for layer in layers)
    assert 1 / 8 < ratio < 8, "a busy machine's speed varies; a wrong unit is a factor of 1000"
    assert (there.predict_many(archs, CLASSES) > 0).all()
    there.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == there


# --- faults on the device ---------------------------------------------------------------------------------------


def changed(kit: Path, path: Path, layers: int = 6, broken: int = 0, broken_frame: str = "") -> Path:
    """A kit of some layers alone, of which the first `broken` are no models, nor is one frame."""
    with zipfile.ZipFile(kit) as old, zipfile.ZipFile(path, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        manifest.update(layers=manifest["layers"][:layers], networks=[], anchors=[])
        for name in old.namelist():
            if name.endswith(".py") or name.startswith("frames/"):
                new.writestr(name, b"no model" if name == broken_frame else old.read(name))
        for i, row in enumerate(manifest["layers"]):
            new.writestr(row["file"], b"no model" if i < broken else old.read(row["file"]))
        new.writestr("manifest.json", json.dumps(manifest))
    return path


@pytest.fixture
def small(kit: Path, tmp_path: Path) -> Path:
    return changed(kit, tmp_path / "kit.zip")


def refused(*words: str | Path, cwd: Path, before: str = "") -> str:
    done = run(sys.executable, *words, cwd=cwd, before=before)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in done.stderr
    return line


def test_a_missing_runtime(small: Path, tmp_path: Path) -> None:
    assert refused("-I", "-S", small, cwd=tmp_path).endswith("pip install onnxruntime numpy")


def test_a_model_that_fails_is_recorded(kit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = run(sys.executable, changed(kit, tmp_path / "kit.zip", broken=1), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "complete, but onnxruntime failed on 1 models" in done.stderr
    with caplog.at_level(logging.WARNING, "mnas"):
        table = import_results(str(tmp_path / "results.json"))
    assert (len(table.entries), len(table.failed), table.calibration) == (5, 1, None)
    assert "1 of the 6 layers" in caplog.text
    assert "not calibrated" in caplog.text


def test_where_a_frame_does_not_run_its_layers_have_failed(kit: Path, tmp_path: Path) -> None:
    rows = json.loads(zipfile.ZipFile(kit).read("manifest.json"))["layers"][:40]
    lost = [row["file"] for row in rows if row["frame"] == rows[0]["frame"]]
    assert 0 < len(lost) < 40
    small = changed(kit, tmp_path / "kit.zip", layers=40, broken_frame=rows[0]["frame"])
    done = run(sys.executable, small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)["layer_ms"].keys() == {row["file"] for row in rows} - set(lost)
    failed = results(tmp_path)["failed"]
    assert failed.keys() == set(lost)
    assert all(why.startswith("its frame: ") for why in failed.values())


def test_every_layer_has_its_frame(kit: Path) -> None:
    files: dict[Layer, set[str]] = {}
    with zipfile.ZipFile(kit) as file:
        names = set(file.namelist())
        for row in json.loads(file.read("manifest.json"))["layers"]:
            files.setdefault(frame(Layer(**row["layer"])), set()).add(row["frame"])
    used = [name for names_of_frame in files.values() for name in names_of_frame]
    assert len(used) == len(set(used)) == len(files)
    assert {name for name in names if name.startswith("frames/")} == set(used)


def test_no_model_runs(kit: Path, tmp_path: Path) -> None:
    line = refused(changed(kit, tmp_path / "kit.zip", broken=6), cwd=tmp_path)
    assert "ran none of the layers: " in line
    assert not (tmp_path / "results.json").exists()


def test_unzipped_and_with_options(small: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(small) as file:
        file.extractall(tmp_path / "folder")
    done = run(sys.executable, "folder", "-o", "mine.json", "--threads", "2", "--device", "my board", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = import_results(tmp_path / "mine.json")
    assert (table.device, table.threads, len(table.entries)) == ("my board", 2, 6)
    (tmp_path / "folder" / "layers" / "0.onnx").unlink()
    assert "copy the kit to this device again" in refused("folder", cwd=tmp_path)


def test_other_conditions_are_not_mixed(small: Path, tmp_path: Path) -> None:
    assert run(sys.executable, small, cwd=tmp_path).returncode == 0
    before = (tmp_path / "results.json").read_bytes()
    assert "was measured with threads 1, now it is 2: name another file with -o" in refused(
        small, "--threads", "2", cwd=tmp_path
    )
    assert "was measured with device" in refused(small, "--device", "my board", cwd=tmp_path)
    assert "--threads 0" in refused(small, "--threads", "0", cwd=tmp_path)
    cores = f"{usable_cores()} core"
    assert cores in refused(small, "--threads", "1000", cwd=tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"complete": true', "weights"])
def test_a_foreign_file_is_not_overwritten(small: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    assert "results.json: not the results of a kit: name another file with -o" in refused(small, cwd=tmp_path)
    assert (tmp_path / "results.json").read_text() == text


def test_a_full_disk_keeps_what_was_there(small: Path, tmp_path: Path) -> None:
    assert run(sys.executable, small, cwd=tmp_path).returncode == 0
    data = results(tmp_path)
    del data["layer_ms"]["layers/3.onnx"]
    (tmp_path / "results.json").write_text(json.dumps(data))
    line = refused(small, cwd=tmp_path, before="ulimit -f 1; ")
    assert "results.json: cannot be written (File too large); 6 of 6 layers" in line
    assert results(tmp_path) == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.zip", "results.json"]
    assert "No such file or directory" in refused(small, "-o", "nowhere/results.json", cwd=tmp_path)


def test_a_damaged_copy(small: Path, tmp_path: Path) -> None:
    content = bytearray(small.read_bytes())
    with zipfile.ZipFile(small) as file:
        content[file.getinfo("layers/2.onnx").header_offset + 100] ^= 255
    small.write_bytes(content)
    assert "layers/2.onnx cannot be read" in refused(small, cwd=tmp_path)


# --- faults on import -------------------------------------------------------------------------------------------


def edited(change: Callable[[Any], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        data = json.loads(text)
        change(data)
        return json.dumps(data)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[: len(text) // 2], "not valid JSON"),
        (lambda text: "[" * 100_000, "not valid JSON"),
        (lambda text: "[]", "expected a mapping"),
        (lambda text: "{}", "is missing"),
        (edited(lambda data: data["layer_ms"].update({"layers/0.onnx": math.nan})), "layer_ms"),
        (edited(lambda data: data["layer_ms"].update({"layers/0.onnx": 0})), "greater than 0"),
        (edited(lambda data: data["layer_ms"].update({"layers/0.onnx": -1.0})), "greater than 0"),
        (edited(lambda data: data["layer_ms"].update({"layers/0.onnx": "1"})), "layer_ms"),
        (edited(lambda data: data["layer_ms"].update({"x.onnx": 1.0})), "x.onnx is not a model of its kit"),
        (edited(lambda data: data["layer_ms"].pop("layers/0.onnx")), "not complete, measured"),
        (edited(lambda data: data.update(complete=False)), "not complete, measured"),
        (edited(lambda data: data.update(colour="red")), "unknown key 'colour'"),
        (edited(lambda data: data["manifest"]["layers"][0]["layer"].update(kernel="3")), "manifest"),
        (edited(lambda data: data["manifest"]["networks"][0]["architecture"].pop("stem")), "'stem' is missing"),
        (edited(lambda data: data.update(threads=0)), "threads"),
    ],
)
def test_bad_results(measured: Path, tmp_path: Path, edit: Callable[[str], str], message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(edit((measured / "results.json").read_text()))
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        import_results(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        import_results(tmp_path / "results.json")


# --- what is in a kit -------------------------------------------------------------------------------------------


def test_the_code_needs_little(kit: Path) -> None:
    """Python 3.8, its standard library, numpy and the runtime; the measuring is that of mnas, word for word."""
    with zipfile.ZipFile(kit) as file:
        sources = {name: file.read(name).decode() for name in file.namelist() if name.endswith(".py")}
        assert "networks/3.onnx" in file.namelist()
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text, feature_version=(3, 8))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in names:
                own = module.replace(".", "/") + ".py" in sources
                assert own or module.split(".")[0] in {*sys.stdlib_module_names, "numpy"}, f"{name} imports {module}"
        # Python 3.8 has no union of dicts, and parses one; a union of types stands in annotations alone
        tree = ast.parse(text)
        annotations = {id(part) for node in ast.walk(tree) for field in ("annotation", "returns")
                       if getattr(node, field, None) for part in ast.walk(getattr(node, field))}  # fmt: skip
        unions = [node.lineno for node in ast.walk(tree) if id(node) not in annotations
                  and isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]  # fmt: skip
        assert not unions, f"{name}: {unions}"
        if text:
            original = PACKAGE / ("latency/kit/runner.py" if name == "__main__.py" else name.removeprefix("mnas/"))
            assert text == original.read_text()


def test_the_same_kit_has_the_same_name(kit: Path, space: SearchSpace, tmp_path: Path) -> None:
    """So that a measurement goes on with a kit that was made again."""
    state = torch.get_rng_state()
    made = make(str(tmp_path / "kit.zip"), space)
    assert torch.equal(torch.get_rng_state(), state)
    with zipfile.ZipFile(kit) as file:
        assert json.loads(file.read("manifest.json"))["kit"] == made["kit"]
    assert kit.stat().st_size < 3e6
    assert [path.name for path in tmp_path.iterdir()] == ["kit.zip"]


def test_weights_leave_no_denormal_numbers() -> None:
    """These would be slow, and a network with random weights has none."""
    network = patterned(Network(zoo.get("mobilenet_v3_large"), 1000))
    smallest = []
    for part in network.modules():
        part.register_forward_hook(lambda part, x, out: smallest.extend(out[out != 0].abs().flatten().tolist()))
    with torch.inference_mode():
        logits = network(torch.rand(1, 3, 64, 64))
    assert min(smallest) > torch.finfo(torch.float32).tiny
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_device_runs_what_the_adapter_runs(runtime: str, space: SearchSpace) -> None:
    try:
        adapter = get_runtime(runtime)
    except MissingDependency as error:
        pytest.skip(str(error))
    arch = space.sample(random.Random(0))
    network = Network(arch, CLASSES).eval()
    exact = dtype_of(runtime) == "float32"
    x = torch.rand(2 if exact else 1, 3, arch.resolution, arch.resolution)
    there = __import__(f"mnas.latency.runtimes.{RUNTIMES[runtime][0]}", fromlist=["prepare_content"])
    images = x if runtime.startswith("onnxruntime") else x.permute(0, 2, 3, 1)
    scratch = torch.cat([images.flatten(), torch.ones(7)]).numpy()
    run = there.prepare_content(adapter.artifact(network, x), scratch, 1)
    with torch.inference_mode():
        expected = network(x).numpy()
        atol = 1e-4 if exact else 0.2 * float(np.abs(expected).max())
        np.testing.assert_allclose(np.asarray(run()), expected, atol=atol)
    assert there.version() == adapter.version()
    assert there.timed_ms(run, 2) > 0


def test_litert(space: SearchSpace, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    make(tmp_path / "whole.zip", space, "litert")
    done = run(sys.executable, changed(tmp_path / "whole.zip", tmp_path / "kit.zip"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = import_results(tmp_path / "results.json")
    assert (table.runtime, table.provenance.runtime_version) == ("litert", metadata.version("ai-edge-litert"))


def test_other_runtimes(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--runtime torch.*onnxruntime_int8, litert"):
        make_kit(tmp_path / "kit.zip", space, Conditions("torch"), rng=random.Random(0))


# --- the command ------------------------------------------------------------------------------------------------


def mnas(*words: str | Path) -> None:
    cli.app(["latency", *map(str, words)], standalone_mode=False)


def test_import_command(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, table = measured / "results.json", tmp_path / "table.yaml"
    mnas("import", source, "--device", "my board", "-o", table)
    assert re.search(r"table.yaml: \d+ layers measured on my board; error on 2 whole networks", capsys.readouterr().out)
    assert LatencyTable.load(table).device == "my board"
    with pytest.raises(BadInput, match=r"table\.yaml: .*-o"):
        mnas("import", source, "-o", table)
    with pytest.raises(BadInput, match=r"results\.json: .*--space"):
        mnas("import", source, "--space", "v3_large", "-o", tmp_path / "other.yaml")
    every = "--space x --runtime litert --runtime-version 1 --threads 2 --batch 1 --classes 5 --unit ms --resolution 32"
    with pytest.raises(BadInput) as refused:
        mnas("import", source, *every.split(), "-o", tmp_path / "other.yaml")
    assert f"leave out {', '.join(every.split()[::2])}: " in str(refused.value)
    with pytest.raises(BadInput, match=r"note10: .*--device.*--space"):
        mnas("import", "note10", "-o", tmp_path / "other.yaml")


def test_import_suggests_what_the_device_refused_or_runs_slowly(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = results(measured)
    for row in data["manifest"]["layers"]:
        layer = Layer(**row["layer"])
        data["layer_ms"][row["file"]] = (1 + layer_madds(layer) / 1e6) * (9 if layer.activation == "hard_swish" else 1)
        if layer.se:
            del data["layer_ms"][row["file"]]
            data["failed"][row["file"]] = "Op 'MUL' is not supported"
    (tmp_path / "results.json").write_text(json.dumps(data))
    mnas("import", tmp_path / "results.json", "-o", tmp_path / "table.yaml")
    assert capsys.readouterr().out.splitlines()[-1].startswith("suggestion: --without se,hard_swish (")
    mnas("import", tmp_path / "results.json", "-o", tmp_path / "other.yaml", "--json")
    refused, slow = json.loads(capsys.readouterr().out)["suggestions"]
    assert (refused["without"], refused["slower"], refused["why"]) == ("se", None, "Op 'MUL' is not supported")
    assert (slow["without"], slow["slower"], slow["than"]) == ("hard_swish", 9.0, "with relu")


def test_kit_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kit.zip"
    mnas("kit", "--space", tiny, "--classes", "10", "--resolution", "32", "-o", path, "--json")
    done = json.loads(capsys.readouterr().out)
    assert (done["space"], done["networks"], done["needs"]) == ("tiny", 60, "onnxruntime")
    with zipfile.ZipFile(path) as file:
        manifest = json.loads(file.read("manifest.json"))
    assert len(manifest["layers"]) == done["layers"] > 20
    assert {row["architecture"]["resolution"] for row in manifest["networks"]} == {32}
    with pytest.raises(BadInput, match=r"kit\.zip: .*-o"):
        mnas("kit", "--space", tiny, "-o", path)


def test_a_kit_of_rectangles(tmp_path: Path) -> None:
    """As typed; six layers and four networks of it run, and come back as a calibrated table."""
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    space = load_space(tmp_path / "tiny.yaml").with_resolutions([(32, 53)])
    manifest = make(tmp_path / "whole.zip", space)
    layers = [row["layer"]["size"] for row in manifest["layers"]]
    assert "32x53" in layers and "16x27" in layers and {"8x14", 1} < set(layers)
    assert all(row["architecture"]["resolution"] == "32x53" for row in manifest["networks"])
    small = changed(tmp_path / "whole.zip", tmp_path / "kit.zip", layers=8)
    assert run(sys.executable, small, cwd=tmp_path).returncode == 0
    table = import_results(tmp_path / "results.json")
    assert table.entries.keys() <= space.layers(CLASSES) and len(table.entries) == 8
    assert any(layer.size == (16, 27) for layer in table.entries)
    table.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == table


def test_results_of_rectangles_are_calibrated(tmp_path: Path) -> None:
    """With times as a device would have them; on a device they are measured."""
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    space = load_space(tmp_path / "tiny.yaml").with_resolutions([(32, 53), (48, 80)])
    manifest = make(tmp_path / "kit.zip", space)
    del manifest["kit"]
    timed = {"ms": 1.0, "anchor_ms": None, "unstable": ""}
    text = json.dumps({
        "complete": True, "device": "a board", "cores": 4, "runtime": "onnxruntime", "runtime_version": "1",
        "threads": 1, "dtype": "float32", "clock_mhz": None, "date": "2026-01-31",
        "layer_ms": {row["file"]: 0.1 + 0.001 * i for i, row in enumerate(manifest["layers"])},
        "networks": {row["file"]: [timed | {"ms": 1.0 + i}] * 2 for i, row in enumerate(manifest["networks"])},
        "failed": {}, "manifest": {**manifest, "kit": "0" * 16},
    })  # fmt: skip
    (tmp_path / "results.json").write_text(text)
    table = import_results(tmp_path / "results.json")
    assert table.entries.keys() == space.layers(CLASSES)
    assert table.calibration is not None and table.calibration.networks.resolutions == ((32, 53), (48, 80))
    assert table.calibration.is_of(space)
