"""Published weights give the published networks' outputs, in the supernet too; what does not fit is refused by name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from random_networks import begin
from references import reference
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn.network import Network, build
from mnas.nn.pretrained import bn_eps_of, load_reference
from mnas.nn.supernet import Supernet
from mnas.nn.weights import read_weights
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.space import SearchSpace, load_space

RESOLUTION = 33  # odd at nearly every stride, so that padding is seen

TORCHVISION = [
    ("mobilenet_v2", "mobilenet_v2", 1.0),
    ("mobilenet_v3_large", "mobilenet_v3_large", 1.0),
    ("mobilenet_v3_small", "mobilenet_v3_small", 1.0),
    ("mnasnet1_0", "mnasnet_b1", 1.0),
]
TIMM = [
    ("mobilenetv1_100", "mobilenet_v1", 1.0),
    ("mobilenetv2_140", "mobilenet_v2", 1.4),
    ("mobilenetv3_large_100", "mobilenet_v3_large", 1.0),
    ("mobilenetv3_small_100", "mobilenet_v3_small", 1.0),
    ("mobilenetv3_small_075", "mobilenet_v3_small", 0.75),
    ("mnasnet_100", "mnasnet_b1", 1.0),
    ("semnasnet_100", "mnasnet_a1", 1.0),
    ("mnasnet_small", "mnasnet_small", 1.0),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small convolutions wait for threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, and BatchNorm statistics of them, with variances of about 0.01, so that eps 1e-3 is seen."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, 0.1 / module.weight[0].numel() ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.5, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
            module.momentum = 1.0
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, module.in_features**-0.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
    with torch.no_grad():
        network.train()(images(4, seed=1))
    return network.eval()


def images(count: int, seed: int = 2) -> Tensor:
    return torch.randn(count, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(seed))


def output(network: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = network.eval()(images(2))
    return result


def difference(one: nn.Module, other: nn.Module) -> float:
    return (output(one) - output(other)).abs().max().item()


def torchvision_network(name: str, **options: Any) -> nn.Module:
    make = getattr(reference("torchvision").models, name)
    with warnings.catch_warnings():
        # MNASNet's own initialisation is about to change in torchvision
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torchvision\.models")
        network: nn.Module = make(weights=None, **options)
    return randomise(network)


def timm_network(name: str, **options: Any) -> nn.Module:
    return randomise(reference("timm").create_model(name, pretrained=False, **options))


def fresh(name: str, width: float = 1.0, num_classes: int = 1000, **changes: Any) -> Network:
    return build(dataclasses.replace(zoo.get(name, width, RESOLUTION), **changes), num_classes)


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return torchvision_network("mobilenet_v3_small")


@pytest.mark.parametrize(("theirs", "name", "width"), TORCHVISION)
def test_computes_what_torchvision_computes(theirs: str, name: str, width: float) -> None:
    network = torchvision_network(theirs)
    own = load_reference(fresh(name, width), network.state_dict())
    assert (output(network)[0] - output(network)[1]).abs().max() > 0.01  # it is no constant
    assert difference(own, network) < 1e-4


@pytest.mark.parametrize(("theirs", "name", "width"), TIMM)
def test_computes_what_timm_computes(theirs: str, name: str, width: float) -> None:
    network = timm_network(theirs)
    own = load_reference(fresh(name, width, bn_eps=1e-5), network.state_dict())
    assert (output(network)[0] - output(network)[1]).abs().max() > 0.01  # it is no constant
    assert difference(own, network) < 1e-4


def test_timm_v3_with_the_wrong_eps_differs_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    network = timm_network("mobilenetv3_small_075")
    own = load_reference(fresh("mobilenet_v3_small", 0.75), network.state_dict())
    assert difference(own, network) > 1e-2
    assert caplog.records[0].args == (1e-5, 1e-3, 1e-5, 1e-5)


def every_operator() -> Architecture:
    return Architecture(
        RESOLUTION,
        Block("conv", 3, 2, 8, "relu"),
        (
            (Block("conv", 3, 1, 8, "relu", skip="identity"), Block("sepconv", 5, 2, 12, "relu", se=4, skip="pool")),
            tuple(Block("mbconv", 3, 1, 12, "hard_swish", hidden=24, se=8, skip="identity") for _ in range(11)),
        ),
        Head(16, 20, "relu6"),
    )


@pytest.mark.parametrize("arch", [every_operator(), zoo.get("mobilenet_v1", 0.25, RESOLUTION)], ids=["all", "v1"])
def test_loads_its_own(arch: Architecture) -> None:
    network = randomise(build(arch, 7))
    own = load_reference(build(arch, 7), network.state_dict())
    assert torch.equal(output(own), output(network))


@pytest.mark.parametrize("theirs", ["mobilenet_v3_small", "mobilenetv3_small_100", "own"])
def test_order_in_the_state_dict_does_not_matter(theirs: str, small: nn.Module) -> None:
    arch = zoo.get("mobilenet_v3_small", resolution=RESOLUTION)
    if theirs == "own":
        network = randomise(build(arch))
    else:
        network = small if theirs == "mobilenet_v3_small" else timm_network(theirs)
    eps = 1e-5 if "mobilenetv3" in theirs else 1e-3
    sorted_by_safetensors = safetensors.torch.load(safetensors.torch.save(network.state_dict()))
    items = list(network.state_dict().items())
    random.Random(0).shuffle(items)
    for state_dict in (sorted_by_safetensors, dict(items), dict(reversed(items))):
        assert difference(load_reference(fresh("mobilenet_v3_small", bn_eps=eps), state_dict), network) < 1e-4


@pytest.mark.parametrize("wrap", [
    lambda weights: {"state_dict": weights, "epoch": 3},
    lambda weights: {"model": weights, "optimizer": {}},
    lambda weights: {f"module.{name}": value for name, value in weights.items()},
    lambda weights: {"model": {f"module._orig_mod.{name}": value for name, value in weights.items()}},
    lambda weights: {f"_orig_mod.module.{name}": value for name, value in weights.items()},
    lambda weights: {"state_dict": {f"model.{name}": value for name, value in weights.items()}, "lr": 0.1},
    lambda weights: {"state_dict": {f"net.backbone.{name}": value for name, value in weights.items()}},
    lambda weights: {"model_state_dict": weights, "loss": 0.5},
    lambda weights: {"state_dict": {name: 0 * value for name, value in weights.items()}, "state_dict_ema": weights},
    lambda weights: {"model": {"state_dict": weights}},
    lambda weights: {"model": {}, "model_ema": {f"module.{name}": value for name, value in weights.items()}
                     | {"n_averaged": torch.tensor(5)}},  # as torchvision's references
    lambda weights: {"state_dict": weights, "state_dict_ema": {f"module.{n}": value for n, value in weights.items()}},
    lambda weights: {name if name.startswith("classifier") else f"backbone.{name}": v for name, v in weights.items()},
    lambda weights: {"state_dict": {f"model.{'' if name.startswith('classifier') else 'backbone.'}{name}": value
                                    for name, value in weights.items()}},
])  # fmt: skip
def test_unwraps_checkpoints(wrap: Any, small: nn.Module) -> None:
    own = load_reference(fresh("mobilenet_v3_small"), wrap(small.state_dict()))
    assert difference(own, small) < 1e-4


@pytest.mark.parametrize("theirs", ["mobilenet_v3_small", "mobilenetv3_small_100"])
def test_other_classes_leave_the_classifier(
    theirs: str, small: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    network = small if theirs == "mobilenet_v3_small" else timm_network(theirs)
    own = fresh("mobilenet_v3_small", num_classes=10)
    before = own.get_parameter("classifier.weight").detach().clone()
    with caplog.at_level(logging.INFO, "mnas"):
        load_reference(own, network.state_dict())
    assert torch.equal(own.get_parameter("classifier.weight"), before)
    assert torch.equal(own.get_parameter("stem.conv.weight"), next(network.parameters()))
    assert caplog.records[0].args == (1000, 10)


def test_the_number_of_classes_may_be_another_where_it_is_equal() -> None:
    network = torchvision_network("mobilenet_v2", num_classes=10)
    assert difference(load_reference(fresh("mobilenet_v2", num_classes=10), network.state_dict()), network) < 1e-4


def test_half_precision_weights_are_converted(small: nn.Module) -> None:
    own = load_reference(fresh("mobilenet_v3_small"), {k: v.half() for k, v in small.state_dict().items()})
    assert own.get_parameter("stem.conv.weight").dtype == torch.float32
    assert difference(own, small) < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_becomes_single(dtype: torch.dtype, small: nn.Module, tmp_path: Path) -> None:
    safetensors.torch.save_file({k: v.to(dtype) for k, v in small.state_dict().items()}, tmp_path / "w.safetensors")
    supernet = supernet_of("v3_small", num_classes=1000)
    arch = begin(supernet, tmp_path / "w.safetensors")
    assert {tensor.dtype for tensor in supernet.parameters()} == {torch.float32}
    assert (logits(supernet, arch) - output(small)).abs().max() < 0.2


@pytest.mark.parametrize("theirs", ["mobilenet_v3_small", "mobilenetv3_small_100", "mobilenet_v2"])
def test_features_alone_leave_the_rest_of_the_head(
    theirs: str, small: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    if theirs == "mobilenetv3_small_100":
        network, name, absent = timm_network(theirs, num_classes=0), "mobilenet_v3_small", "classifier"
    elif theirs == "mobilenet_v2":
        network, name, absent = torchvision_network(theirs), "mobilenet_v2", "classifier"
    else:
        network, name, absent = small, "mobilenet_v3_small", "hidden, classifier"
    weights = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    own = fresh(name, num_classes=10, bn_eps=1e-3 if theirs == "mobilenet_v3_small" else 1e-5)
    before = {key: value.clone() for key, value in own.classifier.state_dict().items()}
    with caplog.at_level(logging.INFO, "mnas"):
        load_reference(own, weights)
    assert [record.args for record in caplog.records] == [(absent,)]
    assert all(torch.equal(value, before[key]) for key, value in own.classifier.state_dict().items())
    assert torch.equal(own.get_parameter("stem.conv.weight"), next(network.parameters()))
    assert torch.equal(own.get_buffer("conv_head.bn1.running_mean"), [
        value for key, value in weights.items() if key.endswith("running_mean")][-1])  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), [(3, 1), (1, 3), (4, 3), (2, 3), (6, 1)])
def test_other_input_channels_as_in_timm(given: int, wanted: int, caplog: pytest.LogCaptureFixture) -> None:
    """timm's own helper gives the expected first convolution."""
    adapt = reference("timm").models.adapt_input_conv
    network = reference("timm").create_model("mobilenetv3_small_075", pretrained=False, in_chans=given)
    arch = dataclasses.replace(zoo.get("mobilenet_v3_small", 0.75, RESOLUTION, wanted), bn_eps=1e-5)
    with caplog.at_level(logging.INFO, "mnas"):
        own = load_reference(build(arch), network.state_dict())
    weight = network.get_parameter("conv_stem.weight").detach()
    expected = adapt(wanted, weight.clone(), base_chans=given)
    assert torch.allclose(own.get_parameter("stem.conv.weight"), expected, atol=1e-6)
    assert [record.args for record in caplog.records] == [(given,) if wanted == 1 else (given, wanted)]


# --- eps


@pytest.mark.parametrize(("make", "theirs", "eps"), [
    (torchvision_network, "mobilenet_v3_small", 1e-3),
    (torchvision_network, "mobilenet_v3_large", 1e-3),
    (torchvision_network, "mobilenet_v2", 1e-5),
    (torchvision_network, "mnasnet1_0", 1e-5),
    (timm_network, "mobilenetv3_small_100", 1e-5),
    (timm_network, "mobilenetv1_100", 1e-5),
    (timm_network, "semnasnet_100", 1e-5),
])  # fmt: skip
def test_the_eps_of_a_file(make: Callable[..., nn.Module], theirs: str, eps: float, tmp_path: Path) -> None:
    network = make(theirs)
    assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")
    assert bn_eps_of(tmp_path / "w.pth") == bn_eps_of(network.state_dict()) == eps


def test_the_eps_of_mnas_own(winner: tuple[Path, Architecture, nn.Module], tmp_path: Path) -> None:
    folder, arch, network = winner
    assert bn_eps_of(folder) == bn_eps_of(folder / "weights.safetensors") == arch.bn_eps
    assert bn_eps_of(network.state_dict()) is None
    with pytest.raises(BadInput, match=r"w\.pth: .*in no known layout"):
        torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
        bn_eps_of(tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"none\.pth: no such file"):
        bn_eps_of(tmp_path / "none.pth")


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_a_supernet_of_timms_eps_computes_what_timm_computes(
    eps: float, tmp_path: Path
) -> None:
    network = timm_network("mobilenetv3_small_100", num_classes=10)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    supernet = Supernet(space_of("v3_small").with_bn_eps(eps), 10).eval()
    arch = begin(supernet, tmp_path / "w.pth")
    assert arch.bn_eps == eps and arch in supernet.space
    assert bool((logits(supernet, arch) - output(network)).abs().max() < 1e-4) == (eps == 1e-5)


def refusal(network: Network, state_dict: Any) -> str:
    """The error's text; the network must not have changed."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_reference(network, state_dict)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert "mobilenet_v1, mobilenet_v2, mobilenet_v3_large" in str(caught.value)
    return str(caught.value)


def test_another_width_names_module_and_shapes(small: nn.Module) -> None:
    message = refusal(fresh("mobilenet_v3_small", 0.75), small.state_dict())
    for name in ("torchvision", "'features.4.block.3.0'", "'blocks.3.conv_pwl'", "(32, 96, 1, 1)", "(40, 96, 1, 1)"):
        assert name in message


def test_another_network_names_the_first_difference(small: nn.Module) -> None:
    message = refusal(fresh("mobilenet_v3_large"), small.state_dict())
    for name in ("'features.1.block.1.fc1'", "'blocks.0.conv_pw'", "expected weight, got bias, weight"):
        assert name in message


def test_a_missing_module_is_named() -> None:
    arch = zoo.get("mobilenet_v1", 0.25, RESOLUTION)
    weights = {name: t for name, t in build(arch).state_dict().items() if not name.startswith("blocks.12.bn2")}
    message = refusal(build(arch), weights | {"classifier.weight": torch.zeros(9), "classifier.bias": torch.zeros(9)})
    for name in ("'classifier'", "'blocks.12.bn2'"):
        assert name in message
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    message = refusal(build(arch), weights)
    for name in (" 53 ", " 55: ", "'blocks.12.bn2' (bias (256,)"):
        assert name in message


def test_a_missing_tensor_is_named() -> None:
    weights = fresh("mobilenet_v1", 0.25).state_dict()
    del weights["blocks.3.bn1.running_var"]
    message = refusal(fresh("mobilenet_v1", 0.25), weights)
    assert "'blocks.3.bn1' (BatchNorm2d)" in message
    assert "expected bias, running_mean, running_var, weight, got bias, running_mean, weight" in message


def test_too_many_modules_are_named() -> None:
    long = fresh("mobilenet_v1", 0.25).state_dict()
    stem, block = Block("conv", 3, 2, 8, "relu6"), Block("sepconv", 3, 1, 16, "relu6")
    short = Architecture(RESOLUTION, stem, ((block,),), Head(0, 0, "none"))
    long = {name: value for name, value in long.items() if name.startswith(("stem", "blocks.0"))}
    long |= {"classifier.weight": torch.zeros(1000, 16), "classifier.bias": torch.zeros(1000)}
    longer = long | {"hidden.linear.weight": torch.zeros(1, 1)}
    assert load_reference(build(short), long)
    message = refusal(build(short), longer)
    assert "'hidden.linear'" in message
    assert "'classifier'" in message
    deeper = long | {"classifier.extra.weight": torch.zeros(2)}
    assert "'classifier.extra' (weight (2,))" in refusal(build(short), deeper)


@pytest.mark.parametrize("weights", [
    {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64), "layer1.0.conv1.weight": torch.zeros(1)},
    {"fc.weight": torch.zeros(10, 10)},
])  # fmt: skip
def test_an_unknown_layout_is_refused(weights: dict[str, Tensor]) -> None:
    message = refusal(fresh("mobilenet_v1", 0.25), weights)
    assert f"'{min(set(weights) - {'bn1.weight'})}'" in message
    assert "(torchvision)" in message
    assert "(timm)" in message


@pytest.mark.parametrize(("weights", "got"), [
    ({}, "got none"),
    ([], "got list"),
    (None, "got NoneType"),
    ({"epoch": 3}, "expected a tensor at 'epoch', got int"),
    ({"state_dict": {}}, "got none"),
    ({"model": nn.Linear(1, 1)}, "expected a tensor at 'model', got Linear"),
])  # fmt: skip
def test_what_is_no_state_dict_is_refused(weights: Any, got: str) -> None:
    assert got in refusal(fresh("mobilenet_v1", 0.25), weights)


# --- into a supernet


@functools.cache
def space_of(name: str) -> SearchSpace:
    return load_space(name).with_resolutions((RESOLUTION,))


def supernet_of(name: str, num_classes: int = 10) -> Supernet:
    torch.manual_seed(1)
    return Supernet(space_of(name), num_classes).eval()


def logits(supernet: Supernet, arch: Architecture) -> Tensor:
    with torch.no_grad():
        result: Tensor = supernet(images(2), arch)
    return result


@pytest.mark.parametrize(("make", "theirs", "name"), [
    (torchvision_network, "mobilenet_v3_large", "v3_large"),
    (torchvision_network, "mobilenet_v3_small", "v3_small"),
    (torchvision_network, "mobilenet_v2", "v2"),
    (timm_network, "semnasnet_100", "mnasnet"),
    (timm_network, "mobilenetv1_100", "v1"),
])  # fmt: skip
def test_the_reference_subnet_computes_what_the_file_computes(
    make: Callable[..., nn.Module], theirs: str, name: str, tmp_path: Path
) -> None:
    network = make(theirs, num_classes=10)
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "weights.pth")
    supernet = supernet_of(name)
    arch = begin(supernet, tmp_path / "weights.pth")
    assert arch == zoo.get(supernet.space.reference, resolution=RESOLUTION)
    expected = output(network)
    assert (expected[0] - expected[1]).abs().max() > 0.01
    assert (logits(supernet, arch) - expected).abs().max() < 1e-4


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Architecture, nn.Module]:
    """A folder as a search leaves it, its architecture, its network."""
    folder = tmp_path_factory.mktemp("winner")
    arch = load_space("v3_small").with_resolutions((48,)).sample(random.Random(5))
    network = randomise(build(arch, 10))
    data = safetensors.torch.save(network.state_dict())
    (folder / "architecture.yaml").write_text(arch.to_yaml())
    (folder / "weights.safetensors").write_bytes(data)
    (folder / "weights.safetensors.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  weights.safetensors\n")
    return folder, arch, network


@pytest.mark.parametrize("inside", ["", "weights.safetensors"])
def test_an_earlier_winner_computes_the_same_in_the_supernet(
    inside: str, winner: tuple[Path, Architecture, nn.Module]
) -> None:
    folder, arch, network = winner
    assert read_weights(folder / inside).keys() == network.state_dict().keys()
    supernet = supernet_of("v3_small")
    found = begin(supernet, folder / inside)
    assert found == dataclasses.replace(arch, resolution=RESOLUTION)  # weights fit every resolution
    assert (logits(supernet, found) - output(network)).abs().max() < 1e-5


def test_a_classifier_of_other_classes_stays_in_the_supernet(
    winner: tuple[Path, Architecture, nn.Module]
) -> None:
    folder, _, network = winner
    supernet = supernet_of("v3_small", num_classes=3)
    before = supernet.extract(zoo.get("mobilenet_v3_small", resolution=RESOLUTION)).classifier.state_dict()
    arch = begin(supernet, folder)
    extracted = supernet.extract(arch)
    assert all(torch.equal(value, before[name]) for name, value in extracted.classifier.state_dict().items())
    mine, theirs = extracted.stem.conv.weight, network.get_parameter("stem.conv.weight")
    assert torch.equal(mine.flatten(1).sum(1).sort().values, theirs.flatten(1).sum(1).sort().values)


def no_start(supernet: Supernet, path: Path) -> str:
    """The one line of the refusal; the supernet must not have changed."""
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        begin(supernet, path)
    assert all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_weights_without_a_place_in_the_space_are_refused(
    winner: tuple[Path, Architecture, nn.Module], small: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "small.pth"
    torch.save(small.state_dict(), path)
    message = no_start(supernet_of("v3_large"), path)
    assert "'features.1.block.1.fc1'" in message and "'blocks.0.conv_pw'" in message
    message = no_start(supernet_of("v2"), winner[0])
    assert "'v2'" in message


def test_a_file_without_named_tensors_is_refused_in_one_line(tmp_path: Path) -> None:
    supernet, path = supernet_of("v3_small"), tmp_path / "weights.pth"
    for content in ([1, 2], torch.zeros(3), {"epoch": 3}):
        torch.save(content, path)
        assert "expected" in no_start(supernet, path)
    path.write_bytes(b"no weights")
    assert "cannot be read" in no_start(supernet, path)
