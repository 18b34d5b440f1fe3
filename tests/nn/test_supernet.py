"""The supernet against its plain twin, the extracted network."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.io.presets import preset_names
from mnas.io.strict_yaml import validate
from mnas.nn.network import build
from mnas.nn.supernet import Supernet
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace, load_space

SPACES = preset_names("search_spaces")
CLASSES = 7

ODD: dict[str, Any] = {
    "name": "odd", "reference": "none", "resolution": [32], "width": [0.5, 1],
    "stem": {"channels": 16, "activation": "relu"},
    "shared": ["operator", "expansion", "se"],
    "stages": [
        {"channels": [8, 32], "depth": [1, 2], "stride": 1, "operator": ["conv", "sepconv", "mbconv"], "kernel": [1, 5],
         "expansion": [0.5, 1.1], "se": [0, 0.5], "activation": "relu", "skip": "pool", "output_activation": "relu6"},
        {"channels": 16, "depth": 1, "stride": 2, "kernel": 3, "expansion": [0.5, 1], "activation": "hard_swish"},
    ],
    "head": {"hidden": 24, "activation": "relu"},
}  # fmt: skip
"""Narrow, without a head convolution, with expansions that shrink, vanish by rounding, and leave a stage no mbconv."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    # threads that wait for each other beside a busy neighbour cost more than they give here
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Proposal:
    """A trial that proposes what is wanted where it can, and `pick(options)` elsewhere."""

    def __init__(self, pick: Callable[[list[Any]], Option], **wanted: Option):
        self.pick, self.wanted = pick, wanted

    def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
        option = self.wanted.get(name.partition("[")[0].rpartition(".")[2])
        return option if option is not None and option in choices else self.pick(choices)


@functools.cache
def space_of(name: str) -> SearchSpace:
    if name == "odd":
        return SearchSpace(validate(SpaceFile, ODD, "odd"))
    return load_space(name).with_resolutions((32,))


@functools.cache
def pristine(name: str) -> Supernet:
    """A supernet whose every weight and statistic matters; not to be changed."""
    torch.manual_seed(0)
    supernet = Supernet(space_of(name), CLASSES).eval()
    randomise(supernet)
    return supernet


def randomise(module: nn.Module) -> None:
    for key, tensor in module.state_dict().items():
        if key.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith(("bias", "running_mean")) or tensor.dim() == 2:
            tensor.normal_(0, 0.1)


def fresh(name: str) -> Supernet:
    return copy.deepcopy(pristine(name))


def images(batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)


def extremes(space: SearchSpace) -> list[Architecture]:
    """The smallest and the largest network."""
    return [space.suggest(Proposal(pick)) for pick in (min, max)]


def covering(space: SearchSpace, rng: random.Random) -> list[Architecture]:
    """Random architectures that together show every option of every layer choice in every stage, and every depth."""

    def traits(arch: Architecture) -> Iterator[tuple[Any, ...]]:
        for index, row in enumerate(arch.stages):
            yield index, "depth", len(row)
            for block in row:
                for choice in ("operator", "kernel", "activation", "skip", "channels"):
                    yield index, choice, getattr(block, choice)
                yield index, "se", bool(block.se)

    def wanted() -> Iterator[tuple[Any, ...]]:
        for index, stage in enumerate(space.file.stages):
            yield from ((index, "depth", depth) for depth in stage.depth)
            yield from ((index, "kernel", kernel) for kernel in stage.kernel)
            yield from ((index, "activation", activation) for activation in stage.activation)
            if 1 not in stage.expansion:
                yield from ((index, "operator", operator) for operator in stage.operator)
            yield from ((index, "se", bool(ratio)) for ratio in stage.se)
            yield from ((index, "skip", skip) for skip in stage.skip if max(stage.depth) > 1 or skip != "identity")

    missing, found = set(wanted()), []
    for _ in range(2000):
        arch = space.sample(rng)
        if missing & set(traits(arch)):
            missing -= set(traits(arch))
            found.append(arch)
        if not missing:
            return found
    raise AssertionError(f"never sampled: {missing}")


def some(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    rng = random.Random(seed)
    return extremes(space) + [space.sample(rng) for _ in range(count)]


def assert_close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


# --- the same function


@pytest.mark.parametrize("name", SPACES)
def test_extract_computes_the_same_in_eval(name: str) -> None:
    supernet, x = pristine(name), images()
    for arch in extremes(supernet.space) + covering(supernet.space, random.Random(name)):
        with torch.no_grad():
            logits, plain = supernet(x, arch), supernet.extract(arch)(x)
        assert logits.shape == (2, CLASSES) and logits.std() > 1e-3
        assert_close(logits, plain)


@pytest.mark.parametrize("name", SPACES)
def test_the_reference_runs(name: str) -> None:
    supernet, x = pristine(name), images()
    arch = zoo.get(supernet.space.reference, resolution=32)
    if name.startswith("ofa_mbv3"):  # MobileNetV3-Large is there to compare with, and not in the space
        assert arch not in supernet.space
        arch = supernet.space.sample(random.Random(0))
    assert_close(supernet(x, arch), supernet.extract(arch)(x))


def test_an_odd_space() -> None:
    supernet, x = pristine("odd"), images()
    every = list(supernet.space.enumerate())
    assert {block.operator for arch in every for block in arch.blocks} == {"conv", "sepconv", "mbconv"}
    with torch.no_grad():
        for arch in every[::7]:
            assert_close(supernet(x, arch), supernet.extract(arch)(x))


@pytest.mark.parametrize(
    ("name", "pick"), [("v1", max), ("odd", max), ("odd", min), ("v3_small", None), ("mnasnet", None)]
)
def test_training_computes_the_same(name: str, pick: Callable[[list[Any]], Option] | None) -> None:
    """Outputs by batch statistics, running statistics and gradients; in float64, where rounding hides nothing."""
    supernet, x = fresh(name).double().train(), images(4, dtype=torch.float64)
    arch = supernet.space.suggest(Proposal(pick or random.Random(2).choice))
    network = supernet.extract(arch)
    supernet.zero_grad()
    shared, plain = supernet(x, arch), network(x)
    assert_close(shared, plain, tolerance=1e-9)
    for logits in (shared, plain):
        torch.autograd.backward(nn.functional.cross_entropy(logits, torch.arange(4)))
    for key, value in supernet.extract(arch).state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert_close(value, network.state_dict()[key], tolerance=1e-9)
    slices = dict(gradients(supernet).extract(arch).named_parameters())
    norm = 0.0
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert_close(slices[key].detach(), parameter.grad, tolerance=1e-8)
        norm += float(parameter.grad.square().sum())
    # and nothing outside the subnet's slices has a gradient
    whole = sum(float(p.grad.square().sum()) for p in supernet.parameters() if p.grad is not None)
    assert whole == pytest.approx(norm)


def gradients(supernet: Supernet) -> Supernet:
    """The supernet with its gradients in place of its weights."""
    twin = copy.deepcopy(supernet)
    for mine, its in zip(twin.parameters(), supernet.parameters(), strict=True):
        mine.data = torch.zeros_like(its) if its.grad is None else its.grad.clone()
    return twin


def test_training_in_float32_and_channels_last() -> None:
    supernet = fresh("v3_small").to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    x = images(16).to(memory_format=torch.channels_last)
    for arch in some(supernet.space, 1, seed=1):
        network = supernet.extract(arch)
        assert_close(supernet(x, arch), network(x), tolerance=1e-4)
    assert network.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_only_the_subnets_running_statistics_move() -> None:
    supernet = fresh("v3_large").train()
    arch = supernet.space.suggest(Proposal(min))
    supernet(images(4), arch)
    now, before = supernet.state_dict(), pristine("v3_large").state_dict()
    moved = {key for key in now if not torch.equal(now[key], before[key])}
    assert moved and all("running_" in key for key in moved)
    hidden = arch.stages[1][0].hidden
    mean, was = (state["stages.1.0.mbconv.bn2.running_mean"] for state in (now, before))
    assert len(mean) > hidden and not torch.equal(mean[:hidden], was[:hidden])
    assert torch.equal(mean[hidden:], was[hidden:])
    assert not any(key.startswith("stages.1.1.") for key in moved)


def test_several_subnets_before_one_backward() -> None:
    supernet, x = fresh("v3_small").train(), images(4)
    archs = some(supernet.space, 1)
    torch.autograd.backward([supernet(x, arch).square().sum() for arch in archs])
    together = [None if p.grad is None else p.grad.clone() for p in supernet.parameters()]
    supernet.zero_grad()
    for arch in archs:
        supernet(x, arch).square().sum().backward()
    for one, parameter in zip(together, supernet.parameters(), strict=True):
        assert (one is None) == (parameter.grad is None)
        if one is not None and parameter.grad is not None:
            torch.testing.assert_close(one, parameter.grad, atol=1e-4, rtol=1e-3)


# --- what is shared


def test_slices_are_leading_channels_and_centred_kernels() -> None:
    supernet = pristine("v3_large")
    arch = zoo.get("mobilenet_v3_large", resolution=32)
    first, full = supernet.extract(arch).blocks[3], supernet.state_dict()
    own = first.state_dict()  # 24 -> 72 -> 40 channels, kernel 5 of 7, 24 squeezed
    slot = "stages.2.0.mbconv."
    assert full[slot + "conv_dw.weight"].shape == (144, 1, 7, 7)
    assert torch.equal(own["conv_pw.weight"], full[slot + "conv_pw.weight"][:72, :24])
    assert torch.equal(own["conv_dw.weight"], full[slot + "conv_dw.weight"][:72, :, 1:6, 1:6])
    assert torch.equal(own["conv_pwl.weight"], full[slot + "conv_pwl.weight"][:40, :72])
    assert torch.equal(own["se.conv_reduce.weight"], full[slot + "se.conv_reduce.weight"][:24, :72])
    assert torch.equal(own["se.conv_expand.bias"], full[slot + "se.conv_expand.bias"][:72])
    assert torch.equal(own["bn2.running_var"], full[slot + "bn2.running_var"][:72])


def test_a_sepconv_runs_inside_the_mbconv() -> None:
    supernet = pristine("mnasnet")
    trial = Proposal(max, operator="sepconv", kernel=3, skip="none")
    block = supernet.extract(supernet.space.suggest(trial)).blocks[2].state_dict()
    full, slot = supernet.state_dict(), "stages.1.0.mbconv."
    assert torch.equal(block["conv_dw.weight"], full[slot + "conv_dw.weight"][:24, :, 1:4, 1:4])
    assert torch.equal(block["bn1.weight"], full[slot + "bn2.weight"][:24])
    assert torch.equal(block["conv_pw.weight"], full[slot + "conv_pwl.weight"][:32, :24])
    assert torch.equal(block["bn2.running_mean"], full[slot + "bn3.running_mean"][:32])
    assert "stages.1.0.conv.conv.weight" in full and "stages.1.0.sepconv.conv_dw.weight" not in full


@pytest.mark.parametrize("name", SPACES)
def test_every_weight_is_used_by_some_subnet(name: str) -> None:
    supernet = fresh(name)
    for operator in ("conv", "sepconv", "mbconv"):
        arch = supernet.space.suggest(Proposal(max, operator=operator))
        used = [tensor for layer, slot in supernet.walk(arch) for tensor in slot.tensors(layer).values()]
        torch.autograd.backward([tensor.sum() for tensor in used if tensor.requires_grad])
    assert all(parameter.grad is not None and parameter.grad.all() for parameter in supernet.parameters())


def test_extracted_weights_are_copies_and_keep_mode_and_dtype() -> None:
    supernet = fresh("v1").double()
    arch = supernet.space.sample(random.Random(0))
    network = supernet.extract(arch)
    assert not network.training and supernet.train().extract(arch).training
    for tensor in network.state_dict().values():
        assert tensor.dtype in (torch.float64, torch.int64) and tensor.device.type == "cpu"
        tensor.zero_()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in network.parameters())
    assert all(torch.equal(a, b.double()) for a, b in zip(
        supernet.state_dict().values(), pristine("v1").state_dict().values(), strict=True))  # fmt: skip


# --- weights in


@pytest.mark.parametrize("name", [*SPACES, "odd"])
def test_inherit_is_the_inverse_of_extract(name: str) -> None:
    supernet, x = fresh(name), images()
    arch = supernet.space.sample(random.Random(2))
    network = build(arch, CLASSES).eval()
    randomise(network)
    supernet.inherit(network, arch)
    assert_same_state(supernet.extract(arch), network)
    with torch.no_grad():
        assert_close(supernet(x, arch), network(x))


def test_inherited_weights_lie_where_extract_finds_them_and_the_rest_stays() -> None:
    supernet, before = fresh("v3_large"), pristine("v3_large").state_dict()
    arch = zoo.get("mobilenet_v3_large", resolution=32)
    network = build(arch, CLASSES)
    supernet.inherit(network, arch)
    own, after = network.blocks[3].state_dict(), supernet.state_dict()
    slot = "stages.2.0.mbconv."
    kernels, was = after[slot + "conv_dw.weight"], before[slot + "conv_dw.weight"]
    assert torch.equal(kernels[:72, :, 1:6, 1:6], own["conv_dw.weight"])
    assert torch.equal(nn.functional.pad(kernels[:72, :, 1:6, 1:6], (1, 1, 1, 1)), kernels[:72])  # zeros around
    assert torch.equal(kernels[72:], was[72:])
    projected = after[slot + "conv_pwl.weight"]
    assert torch.equal(projected[:, :72], own["conv_pwl.weight"]) and not projected[:, 72:].any()
    assert torch.equal(after[slot + "bn2.running_mean"][72:], before[slot + "bn2.running_mean"][72:])
    beyond = [key for key in after if key.startswith("stages.2.3.")]
    assert beyond and all(torch.equal(after[key], before[key]) for key in beyond)


@pytest.mark.parametrize(("name", "fixed"), [
    ("v3_large", {"width": 1.0, "se": 0.25, "activation": "hard_swish"}),
    ("v3_small", {"width": 0.75, "se": 0.0, "activation": "relu"}),
    ("v2", {"width": 1.0}),
    ("ofa_mbv3", {}),
])  # fmt: skip
def test_larger_networks_begin_as_what_was_inherited(name: str, fixed: dict[str, Option]) -> None:
    """With larger kernels, more hidden channels and more layers."""
    space, x = space_of(name), images()
    small, large = (space.suggest(Proposal(pick, **fixed)) for pick in (min, max))
    supernet, network = Supernet(space, CLASSES).eval(), build(small, CLASSES).eval()
    randomise(network)
    supernet.inherit(network, small)
    assert small != large
    with torch.no_grad():
        assert_close(supernet(x, large), network(x))
    supernet.train()
    supernet(images(4), large).square().sum().backward()
    ring = supernet.get_parameter("stages.1.0.mbconv.conv_dw.weight").grad
    assert ring is not None and ring[0, 0, 0].any()


def test_inherit_refuses_what_does_not_fit() -> None:
    supernet = fresh("v3_small")
    arch, other = some(supernet.space, 0)
    v1 = zoo.get("mobilenet_v1")
    misfits = [
        (build(other, CLASSES), arch, f"{arch.id}.* 7 classes"),
        (build(arch, CLASSES + 1), arch, f"{arch.id}.* 7 classes"),
        (build(v1, CLASSES), v1, f"{v1.id}.*'v3_small'"),
    ]
    for network, stated, message in misfits:
        with pytest.raises(BadInput, match=message):
            supernet.inherit(network, stated)
    assert_same_state(supernet, pristine("v3_small"))


# --- the first state


def zero_scales(supernet: Supernet) -> set[str]:
    return {key for key, p in supernet.named_parameters() if ".bn" in key and "weight" in key and not p.any()}


@pytest.mark.parametrize(("name", "depths", "first"), [
    ("v3_large", (1, 3, 4, 4, 3, 4), {"stages.0.0.sepconv.bn2.weight"}),
    ("v2", (1, 3, 4, 4, 4, 4, 1), set()),
    ("mnasnet", (), set()),  # every layer may go without a shortcut
    ("v1", (), set()),
    ("odd", (), set()),  # stage 1 ends in relu6, which passes no gradient at 0
])  # fmt: skip
def test_layers_with_a_certain_shortcut_begin_as_the_shortcut(
    name: str, depths: tuple[int, ...], first: set[str]
) -> None:
    later = {f"stages.{s}.{i}.mbconv.bn3.weight" for s, depth in enumerate(depths) for i in range(1, depth)}
    assert zero_scales(Supernet(space_of(name), CLASSES)) == first | later


@pytest.mark.parametrize("name", ["v2", "v3_small", "mnasnet"])
def test_zero_scales_neither_stop_the_signal_nor_stay(name: str) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space_of(name), CLASSES)
    zero = zero_scales(supernet)
    for arch in some(supernet.space, 1):
        supernet.zero_grad()
        logits = supernet(images(8), arch)
        assert logits.std(0).min() > 1e-2 * logits.std()
        nn.functional.cross_entropy(logits, torch.arange(8) % CLASSES).backward()
        grads = [supernet.get_parameter(key).grad for key in zero]
        assert all(grad.any() for grad in grads if grad is not None)


# --- no state


class Broken(Exception):
    pass


def test_nothing_stays_behind_after_an_exception() -> None:
    supernet, x = fresh("v3_small"), images()
    small, large = some(supernet.space, 0)
    expected = supernet(x, large)
    attributes = {name: set(vars(module)) for name, module in supernet.named_modules()}

    def fail(*_: Any) -> None:
        raise Broken

    handle = supernet.stages[2][1].register_forward_pre_hook(fail)  # type: ignore[index]
    with pytest.raises(Broken):
        supernet(x, large)
    handle.remove()
    with pytest.raises(RuntimeError):
        supernet(x[:, :2], small)
    with pytest.raises(BadInput):
        supernet(x, zoo.get("mobilenet_v1"))
    assert torch.equal(supernet(x, large), expected)
    assert {name: set(vars(module)) for name, module in supernet.named_modules()} == attributes
    assert_same_state(supernet, pristine("v3_small"))


def test_one_subnet_does_not_change_the_next() -> None:
    supernet, x = pristine("v3_small"), images()
    archs = some(supernet.space, 3)
    alone = [supernet(x, arch) for arch in archs]
    again = [supernet(x, arch) for arch in reversed(archs)][::-1]
    assert all(torch.equal(one, other) for one, other in zip(alone, again, strict=True))


@pytest.mark.parametrize(
    "arch",
    [
        zoo.get("mobilenet_v3_large", resolution=48),
        zoo.get("mobilenet_v3_large", width=0.5, resolution=32),
        zoo.get("mobilenet_v2", resolution=32),
        replace(zoo.get("mobilenet_v3_large", resolution=32), bn_eps=1e-5),
    ],
    ids=["resolution", "width", "space", "bn_eps"],
)
def test_architectures_outside_the_space_are_bad_input(arch: Architecture) -> None:
    supernet = pristine("v3_large")
    for use in (lambda: supernet(images(), arch), lambda: supernet.extract(arch)):
        with pytest.raises(BadInput, match=f"{arch.id}.*'v3_large'"):
            use()


# --- weights


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    mine, its = one.state_dict(), other.state_dict()
    assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)


def test_state_dict_round_trip() -> None:
    supernet = fresh("v2")
    other = Supernet(supernet.space, CLASSES).eval()
    other.load_state_dict(supernet.state_dict())
    assert_same_state(other, supernet)
    arch = supernet.space.sample(random.Random(3))
    assert torch.equal(other(images(), arch), supernet(images(), arch))


def test_initialisation_follows_the_seed() -> None:
    supernets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        supernets.append(Supernet(space_of("v3_small"), CLASSES))
    assert_same_state(supernets[0], supernets[1])
    assert not torch.equal(*(supernet.state_dict()["stem.conv.conv.weight"] for supernet in supernets[1:]))
