"""model.py: it runs without mnas, is readable, and computes the same function."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from handmade import HAND_MADE, usual_network
from torch import nn

from mnas.errors import BadInput, MnasError
from mnas.export.pytorch import export_pytorch, model_source
from mnas.nn.features import features_of
from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.cost import cost

CLASSES = ("cat", 'the "dog"', "rock crab, Cancer irroratus")

ARCHITECTURES = {
    **{name: zoo.get(name, width=0.5, resolution=64) for name in zoo.names()}, **HAND_MADE,
    "rectangle": zoo.get("mobilenet_v3_small", 0.5, (40, 72)),
}

# Loads each folder's model.py in a process that can import neither mnas nor the current folder.
WITHOUT_MNAS = """
import importlib.util, pathlib, sys, torch
sys.dont_write_bytecode = True
torch.set_num_threads(1)
for folder in sorted(path for path in pathlib.Path.cwd().iterdir() if path.is_dir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.build_model()
    assert not network.training
    case = torch.load(folder / "case.pt")
    with torch.inference_mode():
        difference = (network(case["images"]) - case["logits"]).abs().max().item()
        backbone = module.build_model(features_only=True)
        maps = backbone(case["images"])
    assert not backbone.training and len(maps) == len(case["maps"])
    difference = max([difference, *((a - b).abs().max().item() for a, b in zip(maps, case["maps"]))])
    assert backbone.feature_info == case["feature_info"]
    same = list(network.state_dict()) == case["keys"]
    print(folder.name, difference, same, module.CLASSES == tuple(case["classes"]))
assert not [name for name in sys.modules if name.split(".")[0] in ("mnas", "safetensors")]
"""


def isolated_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-B", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of exported networks, each with images and the logits of the network that was exported."""
    root = tmp_path_factory.mktemp("exported")
    for name, arch in ARCHITECTURES.items():
        network = usual_network(arch, len(CLASSES))
        if name == "mobilenet_v3_small":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        files = export_pytorch(network, arch, str(root / name), classes=CLASSES, title=f"The network {name}")
        assert [file.name for file in files] == ["model.py", "weights.safetensors", "weights.safetensors.sha256"]
        assert sorted(path.name for path in (root / name).iterdir()) == sorted(file.name for file in files)
        assert network.training
        images = torch.randn(arch.input_shape(2), generator=torch.Generator().manual_seed(0))
        network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        with torch.inference_mode():
            logits = network(images)
            backbone = features_of(network, arch)
            maps = backbone(images)
        assert logits.abs().max() > 0.01, "large enough for a comparison"
        case = {"images": images, "logits": logits, "keys": list(network.state_dict()), "classes": list(CLASSES),
                "maps": maps, "feature_info": list(backbone.feature_info)}  # fmt: skip
        torch.save(case, root / name / "case.pt")
    return root


def test_same_logits_and_keys_without_mnas(exported: Path) -> None:
    done = isolated_python("-c", WITHOUT_MNAS, folder=exported)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == ARCHITECTURES.keys()
    assert max(float(difference) for _, difference, _, _ in rows) <= 5e-6, rows  # it may use other threads
    assert {(same, classes) for _, _, same, classes in rows} == {("True", "True")}


def test_linter_finds_nothing(exported: Path) -> None:
    done = isolated_python(
        "-m", "ruff", "check", "--isolated", "--no-cache", "--line-length=120", "--select=E,F,W,I,B,C4,RET,SIM,UP",
        "--target-version=py311", ".", folder=exported,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_source_imports_torch_alone_and_uses_what_it_defines(exported: Path, name: str) -> None:
    source = (exported / name / "model.py").read_text()
    tree = ast.parse(source)
    for nodes, packages in ((tree.body, {"torch"}), (ast.walk(tree), {"torch", "PIL"})):
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = [str(node.module) if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
        assert {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) == packages
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert defined <= used | {"predict"}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        arguments = {argument.arg for argument in function.args.args} - {"self"}
        assert arguments <= {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}, function.name
    arch = ARCHITECTURES[name]
    blocks = (arch.stem, *arch.blocks)
    assert ("SqueezeExcite" in source) == any(block.se for block in blocks)
    assert ("self.se" in source) == any(block.se for block in blocks)
    assert ("output_activation" in source) == any(block.output_activation != "none" for block in blocks)
    assert ("PoolSkip" in source) == any(block.skip == "pool" for block in blocks)
    for operator, class_name in (("sepconv", "SepConv"), ("mbconv", "MBConv")):
        assert (class_name in source) == any(block.operator == operator for block in blocks)


def test_source_has_the_rows_of_the_papers_table() -> None:
    arch = zoo.get("mobilenet_v3_large")
    source = model_source(arch, CLASSES, title="MobileNetV3-Large")
    assert source.startswith('"""MobileNetV3-Large.\n')
    costs = cost(arch, len(CLASSES))
    for figure in (f"{costs.params:,}", f"{costs.madds / 1e6:,.1f} M", "224x224", arch.id):
        assert figure in (ast.get_docstring(ast.parse(source)) or "")
    for line in (
        'self.stem = ConvBNAct(3, 16, kernel=3, stride=2, activation="hard_swish")  # 112x112',
        '    MBConv(16, 64, 24, kernel=3, stride=2, activation="relu"),  # 56x56',
        '    MBConv(160, 960, 160, kernel=5, activation="hard_swish", se=240, skip="identity"),',
        "x = self.blocks(x)  # (b, 160, 7, 7)",
        "return self.classifier(self.dropout(x))  # (b, 3)",
    ):
        assert f"        {line}\n" in source
    assert [source.count(f"  # {size}x{size}\n") for size in (112, 56, 28, 14, 7)] == [1] * 5


def test_any_words_and_widths_make_valid_source() -> None:
    arch = Architecture(
        64, Block("conv", 3, 2, 11024, "relu"),
        ((Block("sepconv", 5, 2, 11024, "hard_swish", se=2756, skip="pool", output_activation="hard_swish"),),),
        Head(0, 0, "none"),
    )  # fmt: skip
    classes = ["a\nb", "both \" and '", "{brace}", "back\\slash", "\udcff lost", "日本", "long " * 60]
    classes += [str(i) for i in range(90)]
    title = 'A "title" in """quotes""", C:\\new\\x, \x00 zero, ' + "word " * 40
    source = model_source(arch, classes, title=title)
    tree = ast.parse(source)
    assigned = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(assigned["CLASSES"]) == tuple(classes)
    assert "C:\\new\\x" in (ast.get_docstring(tree) or "")
    assert max(map(len, source.splitlines())) <= 120
    one = ast.parse(model_source(arch, ["alone"], title="One")).body
    assert any(isinstance(node, ast.Assign) and ast.unparse(node) == "CLASSES = ('alone',)" for node in one)


def test_running_the_file_prints_parameters_and_shape(exported: Path) -> None:
    done = isolated_python("model.py", folder=exported / "mobilenet_v3_small")
    params = cost(ARCHITECTURES["mobilenet_v3_small"], len(CLASSES)).params
    assert done.stderr == ""
    for figure in (f"{params:,}", "(1, 3, 64, 64)", "(1, 3)"):
        assert figure in done.stdout


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    arch = HAND_MADE["convolutions"]
    export_pytorch(usual_network(arch, len(CLASSES)), arch, tmp_path, classes=CLASSES, title="Tampered")
    weights = tmp_path / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    stated = (tmp_path / "weights.safetensors.sha256").read_text()
    assert stated == f"{hashlib.sha256(data).hexdigest()}  weights.safetensors\n"  # what `sha256sum -c` reads
    data[-1] ^= 1
    weights.write_bytes(data)
    done = isolated_python("model.py", folder=tmp_path)
    assert done.returncode != 0
    assert "weights.safetensors.sha256" in done.stderr.splitlines()[-1]


def test_wrong_number_of_classes_writes_nothing(tmp_path: Path) -> None:
    arch = HAND_MADE["convolutions"]
    with pytest.raises(BadInput, match=r"3 .* 2"):
        export_pytorch(build(arch, 3), arch, tmp_path / "winner", classes=["a", "b"], title="Wrong")
    assert not (tmp_path / "winner").exists()


def test_other_logits_are_an_error(tmp_path: Path) -> None:
    arch = HAND_MADE["linear_hidden"]
    network = usual_network(arch, len(CLASSES))
    network.stem.act1 = nn.Hardswish()  # differs from the architecture
    with pytest.raises(MnasError, match=r"model\.py.* \d"):
        export_pytorch(network, arch, tmp_path, classes=CLASSES, title="Other")
    with torch.no_grad():
        nn.init.constant_(next(network.classifier.parameters()), float("nan"))
    with pytest.raises(MnasError, match="nan"):
        export_pytorch(network, arch, tmp_path, classes=CLASSES, title="NaN")
