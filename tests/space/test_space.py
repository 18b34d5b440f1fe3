"""Search spaces: every walk over one gives networks of it, each once, and back."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from mnas.errors import BadInput
from mnas.io.presets import preset_names
from mnas.io.strict_yaml import validate
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.cost import cost, layer_madds
from mnas.space.layer import Layer
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace, load_space

SHIPPED = preset_names("search_spaces")
WITHOUT_REFERENCE = ["ofa_mbv3", "ofa_mbv3_w1.0"]
"""Once-for-all's spaces, whose channels or expansions no network of the zoo has."""
EVERYTHING = ["operator", "kernel", "expansion", "se", "activation", "skip"]
STAGE: dict[str, Any] = {"channels": 16, "depth": 1, "stride": 1, "kernel": 3, "activation": "relu"}


def tiny(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A space file's data; each stage states what it has beside STAGE."""
    data: dict[str, Any] = {
        "name": "tiny", "reference": "none", "resolution": [32], "stem": {"channels": 16, "activation": "relu"},
        "head": {"channels": 32, "activation": "relu"}, "stages": [STAGE | stage for stage in stages],
    }  # fmt: skip
    return data | more


def space_of(data: dict[str, Any]) -> SearchSpace:
    return SearchSpace(validate(SpaceFile, data, "tiny"))


ALL_OPERATORS = ["conv", "sepconv", "mbconv"]
TINY: dict[str, dict[str, Any]] = {
    "one network": tiny({}),
    "own choices": tiny({"kernel": [3, 5], "expansion": [3, 6], "se": [0, 0.25], "depth": [1, 2]}),
    "shared choices": tiny(
        {"kernel": [3, 5], "expansion": [3, 6], "se": [0, 0.25], "depth": [1, 2], "activation": ["relu", "hard_swish"]},
        {"kernel": [3, 5], "stride": 2, "depth": [2, 3]}, shared=["kernel", "se", "activation", "expansion"],
    ),
    "operators, own": tiny(
        {"operator": ALL_OPERATORS, "kernel": [3, 5], "expansion": [3, 6], "se": [0, 0.25], "depth": [1, 2]}
    ),
    "operators, shared": tiny(
        {"operator": ALL_OPERATORS, "expansion": [3, 6], "se": [0, 0.25], "depth": [1, 2], "skip": ["none", "pool"]},
        {"operator": ALL_OPERATORS, "expansion": [3, 6], "depth": [1, 2], "skip": ["none", "pool"]}, shared=EVERYTHING,
    ),
    "channels that round alike": tiny(
        {"channels": [16, 24, 32], "depth": [1, 2]}, {"channels": [20, 24, 40], "stride": 2, "se": [0.25, 0.3]},
        width=0.25,
    ),
    "widths that round alike": tiny(
        {"channels": [16, 24, 32], "depth": [1, 2]}, {"channels": [16, 24], "kernel": [3, 5]},
        width=[1.0, 1.5, 0.75, 1.05],
        stem={"channels": 8, "activation": "relu"}, head={"channels": 64, "scale": "fixed", "activation": "relu"},
    ),
    "skips that do not exist": tiny(
        {"stride": 2, "skip": ["none", "identity"]},
        {"channels": 24, "depth": [1, 2], "skip": ["identity", "none", "pool"]},
    ),
    "skips, shared": tiny(
        {"stride": 2, "depth": [1, 2, 3], "skip": ["none", "identity", "pool"]},
        {"channels": [16, 24], "skip": ["identity", "none"]}, shared=["skip"],
    ),
    "depths": tiny({"depth": [1, 3]}, {"depth": [2, 4], "stride": 2, "kernel": [3, 5]}),
    "expansions that round alike": tiny({"channels": 8, "depth": 2, "expansion": [1, 1.05, 3, 3.1], "se": [0, 0.5]}),
    "expansions by 1 after rounding": tiny(
        {"channels": [8, 48], "depth": 2, "operator": ALL_OPERATORS, "expansion": [1.1, 6], "se": [0.25, 0.5]}
    ),
    "expansions by 1 after rounding, shared": tiny(
        {"channels": [8, 48], "depth": [1, 2], "operator": ["sepconv", "mbconv"], "expansion": [1.1, 1.05]},
        {"channels": 8, "operator": ["mbconv", "sepconv"], "expansion": [0.5, 2.3], "depth": [1, 2]}, shared=EVERYTHING,
    ),
    "fractions narrowed": tiny(
        {"channels": [8, 64], "depth": 2, "expansion": [2.3, 2.5, 3.0], "se": [0.25, 0.3, 0.5]}, width=[0.5, 1]
    ),
    "resolutions and squeezed inputs": tiny(
        {"channels": [16, 40], "depth": 2, "se": [0, 0.25, 0.5], "expansion": 3}, resolution=[32, 64], se_of="input"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param)


@pytest.fixture(params=TINY)
def small(request: pytest.FixtureRequest) -> SearchSpace:
    return space_of(TINY[request.param])


# --- shipped spaces


def member(space: SearchSpace) -> Architecture:
    """The reference, or any network of a space that is without it."""
    return space.sample(random.Random(4)) if space.name in WITHOUT_REFERENCE else zoo.get(space.reference)


def test_the_reference_is_in_its_space(shipped: SearchSpace) -> None:
    if shipped.name in WITHOUT_REFERENCE:
        assert not any(zoo.get(shipped.reference, width) in shipped for width in (1.0, *shipped.file.width))
        return
    for width in shipped.file.width:
        for resolution in shipped.resolutions:
            arch = zoo.get(shipped.reference, width, resolution)
            assert arch in shipped and shipped.decode(shipped.encode(arch)) == arch
    assert zoo.get(shipped.reference, resolution=40) not in shipped
    assert zoo.get(shipped.reference, resolution=40) in shipped.with_resolutions((40, 48))
    assert "a text" not in shipped


def test_mnasnet_has_both_published_networks() -> None:
    space = load_space("mnasnet")
    assert zoo.get("mnasnet_a1") in space and zoo.get("mnasnet_b1") in space
    assert zoo.get("mnasnet_small") not in space


def test_decode_inverts_encode(shipped: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(40):
        arch = shipped.sample(rng)
        assert arch in shipped
        assert shipped.decode(shipped.encode(arch)) == arch
        assert shipped.decode(shipped.encode(arch) | {"stage1.layer9.kernel": 3}) == arch


def test_samples_follow_the_generator(shipped: SearchSpace) -> None:
    one, other = ([shipped.sample(rng) for _ in range(5)] for rng in (random.Random(3), random.Random(3)))
    assert one == other and len(set(one)) > 1


def test_optuna_proposes_networks_of_the_space(shipped: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))  # the first 10 trials are random
    proposed: list[Architecture] = []

    def objective(trial: optuna.Trial) -> float:
        arch = shipped.suggest(trial)
        assert shipped.decode(trial.params) == arch and shipped.encode(arch) == trial.params
        proposed.append(arch)
        return float(cost(arch).madds)

    # Optuna itself refuses a name whose options changed
    study.optimize(objective, n_trials=15)
    assert all(arch in shipped for arch in proposed) and len(set(proposed)) > 5
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for trial in study.trials:
        for name, distribution in trial.distributions.items():
            assert distributions.setdefault(name, distribution) == distribution
            assert isinstance(distribution, optuna.distributions.CategoricalDistribution)
            assert len(distribution.choices) > 1


def test_mutation_stays_in_the_space(shipped: SearchSpace) -> None:
    rng = random.Random(0)
    arch = member(shipped)
    assert shipped.mutate(arch, rng, rate=0.0) == arch
    seen = set()
    for _ in range(30):
        arch = shipped.mutate(arch, rng)
        assert arch in shipped
        seen.add(arch)
    assert len(seen) > 3


def test_layers_cover_every_sampled_network(shipped: SearchSpace) -> None:
    layers = shipped.layers(10)
    rng = random.Random(1)
    for arch in [member(shipped)] + [shipped.sample(rng) for _ in range(100)]:
        assert set(arch.layers(10)) <= layers


def test_choices_name_what_encode_names(shipped: SearchSpace) -> None:
    choices = shipped.choices()
    for name, option in shipped.encode(member(shipped)).items():
        if name in choices:
            assert option in choices[name]
    assert all(len(options) > 1 for options in choices.values())
    if len(shipped.file.width) > 1:
        assert choices["width"] == list(shipped.file.width)


def test_sizes() -> None:
    """By hand: v1 has 7 widths and 4 resolutions; a layer of v2 has 9 variants, its first stage's 3, one of OFA's 9."""
    assert load_space("v1").size == 7 * 4
    assert load_space("v2").size == 3 * 4 * 3 * (9 + 9**2 + 9**3) * (9**2 + 9**3 + 9**4) ** 4 * 9
    for name in ("ofa_mbv3", "ofa_mbv3_w1.0"):
        assert load_space(name).size == 17 * (9**2 + 9**3 + 9**4) ** 5


def test_argmin_and_argmax_of_shipped_spaces(shipped: SearchSpace) -> None:
    shipped = shipped.with_resolutions((min(shipped.resolutions), max(shipped.resolutions)))
    fastest, slowest = shipped.argmin(layer_sum), shipped.argmax(layer_sum)
    assert fastest in shipped and slowest in shipped
    rng = random.Random(2)
    for arch in [shipped.sample(rng) for _ in range(200)]:
        assert layer_sum(fastest) <= layer_sum(arch) <= layer_sum(slowest)


# --- tiny spaces, whole


def test_each_network_once(small: SearchSpace) -> None:
    every = list(small.enumerate())
    assert len(every) == len(set(every)) == small.size
    for arch in every:
        assert arch in small and small.decode(small.encode(arch)) == arch


@pytest.mark.parametrize(
    "name", ["one network", "channels that round alike", "skips that do not exist", "skips, shared"]
)
def test_sampling_reaches_every_network(name: str) -> None:
    small, rng = space_of(TINY[name]), random.Random(0)
    assert {small.sample(rng) for _ in range(60 * small.size)} == set(small.enumerate())


def test_layers_are_exactly_those_of_all_networks(small: SearchSpace) -> None:
    assert small.layers(10) == {layer for arch in small.enumerate() for layer in arch.layers(10)}


def test_names_keep_their_options(small: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    every = set(small.enumerate())
    for _ in range(40):
        trial = study.ask()
        arch = small.suggest(trial)
        assert arch in every and small.decode(trial.params) == arch
        study.tell(trial, 0.0)


def test_mutation_of_tiny_spaces(small: SearchSpace) -> None:
    rng, every = random.Random(0), set(small.enumerate())
    for arch in rng.sample(sorted(every, key=lambda arch: arch.id), min(20, len(every))):
        assert small.mutate(arch, rng, rate=0.5) in every


def layer_sum(arch: Architecture) -> float:
    """Milliseconds by a made-up table: launches, operations, and a depthwise convolution's poor use of the machine."""
    return sum(_layer_ms(layer) for layer in arch.layers(10))


@functools.cache
def _layer_ms(layer: Layer) -> float:
    speed = {"conv": 0.4, "linear": 0.5}.get(layer.operator, 1.0) * (1.2 if layer.kernel > 3 else 1)
    extras = 0.03 * bool(layer.se) + 0.01 * (layer.skip != "none") + 0.008 * (layer.activation == "hard_swish")
    return 0.02 + extras + 1e-6 * speed * layer_madds(layer)


@pytest.mark.parametrize("f", [layer_sum, lambda arch: cost(arch).madds, lambda arch: cost(arch).params])
def test_argmin_and_argmax_are_brute_forces(small: SearchSpace, f: Callable[[Architecture], float]) -> None:
    values = [f(arch) for arch in small.enumerate()]
    assert f(small.argmin(f)) == min(values) and f(small.argmax(f)) == max(values)


@pytest.mark.parametrize("width", [0.75, 1.0, 1.3])
def test_channels_of_feature_maps_are_multiples_of_8(width: float) -> None:
    """onnxruntime takes more than twice as long for a convolution with other ones, whatever a file asks for."""
    stages = [{"channels": 18, "expansion": [1.3, 2.1]}, {"channels": 126, "stride": 2, "expansion": 3.1}]
    odd = tiny(*stages, width=[width], stem={"channels": 13, "activation": "relu"},
               head={"channels": 126, "activation": "relu"})  # fmt: skip
    layers = [layer for layer in space_of(odd).layers() if layer.operator != "linear"]
    channels = {count for layer in layers for count in (layer.in_channels, layer.hidden, layer.out_channels)} - {0, 3}
    assert channels and {count % 8 for count in channels} == {0}


def test_dead_choices_do_not_exist() -> None:
    space = space_of(TINY["operators, own"])
    asked: dict[str, list[Option]] = {}

    class Conv:
        def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
            asked[name] = choices
            return choices[0]

    space.suggest(Conv())
    assert list(asked) == ["stage1.depth", "stage1.layer1.operator", "stage1.layer1.kernel"]


def test_unknown_choice_and_foreign_network() -> None:
    space = space_of(TINY["depths"])
    with pytest.raises(BadInput, match=r"'stage1.depth'.*\[1, 3\].* 2"):
        space.decode({"stage1.depth": 2})
    with pytest.raises(BadInput, match="'tiny'"):
        space.encode(zoo.get("mobilenet_v2"))


# --- files


def stage_file(**changes: Any) -> dict[str, Any]:
    return tiny(changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stage_file(kernal=3), r"'stages\[0\].kernal'.*'kernel'"),
        (tiny({}, resolutions=[32]), r"'resolutions'.*'resolution'"),
        (tiny({}, stem={"chanels": 16, "activation": "relu"}), r"'stem.chanels'.*'channels'"),
        (stage_file(kernel="3"), r"stages\[0\].kernel.*'3'"),
        (stage_file(kernel=3.0), r"stages\[0\].kernel.*3\.0"),
        (stage_file(kernel=[3, 4]), r"stages\[0\].kernel\[1\]: .* 4"),
        (tiny({}, stem={"channels": 16, "kernel": 2, "activation": "relu"}), "stem.kernel: .* 2"),
        (stage_file(kernel=[3, 5, 3]), r"stages\[0\].kernel: .*\[3, 5, 3\]"),
        (stage_file(expansion=[]), r"stages\[0\].expansion: .*\[\]"),
        (stage_file(depth=0), r"stages\[0\].depth\[0\]: .* 1, .* 0"),
        (stage_file(stride=3), r"stages\[0\].stride: .* 3"),
        (stage_file(se=1.5), r"stages\[0\].se\[0\]: .* 1\.5"),
        (stage_file(activation="swish"), r"stages\[0\].activation\[0\]: .*'relu'.*'swish'"),
        (stage_file(operator=["mbconv", "sepconv"], expansion=[1, 6]), "mbconv.*sepconv"),
        (tiny({"operator": ["conv", "mbconv"]}, shared=["se"]), "operator"),
        (tiny({}, stages=[]), "stages: .* 1 "),
        (tiny({}, width=0), "width.* 0"),
        ({key: value for key, value in tiny({}).items() if key != "stem"}, "'stem'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BadInput, match=message) as caught:
        load_space(path)
    assert str(caught.value).startswith(str(path))


def test_unknown_names_and_own_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'v3_larg'.*'v3_large'"):
        load_space("v3_larg")
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        load_space(tmp_path / "absent.yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY["depths"]))
    assert load_space(path).size == load_space(str(path)).size == space_of(TINY["depths"]).size == 2 * (2**2 + 2**4)


def test_with_resolutions() -> None:
    space = load_space("v1").with_resolutions((24, 32))
    assert space.resolutions == (24, 32) and space.size == 14
    with pytest.raises(BadInput, match="--resolution 32,32"):
        space.with_resolutions((32, 32))


# --- rectangles -------------------------------------------------------------------------------------------------


def test_rectangles_are_choices_as_text(tiny: Path) -> None:
    space = load_space(tiny).with_resolutions(["32x56", (48, 84)])
    assert (space.resolutions, space.largest_resolution) == (((32, 56), (48, 84)), (48, 84))
    assert space.choices()["resolution"] == ["32x56", "48x84"]
    assert space.size == load_space(tiny).size
    layers = space.layers(10)
    for seed in range(20):
        arch = space.sample(random.Random(seed))
        assert arch.resolution in space.resolutions and arch in space and arch not in load_space(tiny)
        assert space.decode(space.encode(arch)) == arch
        assert json.loads(json.dumps(space.encode(arch))) == space.encode(arch)
        assert layers.issuperset(arch.layers(10))
    largest = space.argmax(lambda arch: cost(arch, 10).madds)
    assert largest.resolution == (48, 84)


def test_a_file_of_rectangles(tiny: Path) -> None:
    text = tiny.read_text()
    for stated in ("[32x56, 48x84]", "[[32, 56], 48x84]", "[[32, 56], [48, 84]]"):
        tiny.write_text(text.replace("[32, 48]", stated))
        space = load_space(tiny)
        assert space.resolutions == ((32, 56), (48, 84))
        again = SearchSpace(validate(SpaceFile, space.file.model_dump(mode="json"), "again"))
        assert again.file == space.file
    for wrong, words in (("[32, 48x84]", "squares alone"), ("[32x56, 84x48]", "one shape"), ("4x9", "at least 8"),
                         ("[32x56, 32x56]", "each once"), ("32x", "HEIGHTxWIDTH"), ("32y56", "integer")):  # fmt: skip
        tiny.write_text(text.replace("[32, 48]", wrong))
        with pytest.raises(BadInput, match=f"resolution.*{words}"):
            load_space(tiny)
