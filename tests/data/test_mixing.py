"""Mixed batches: what of each image is left is what its target says."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnas.data.mixing import mix, smoothed

CLASSES = 5


def batch(count: int = 5, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i has the value i everywhere and the label i, so that shares can be read off."""
    x = torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 3, size, size)
    return x.contiguous(memory_format=torch.channels_last), torch.arange(count) % CLASSES


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_unmixed_targets_give_the_loss_of_labels(smoothing: float) -> None:
    x, labels = batch()
    logits = 3 * torch.randn(5, CLASSES, generator=seeded())
    generator = seeded()
    same, targets = mix(x, labels, CLASSES, mixup=0.0, cutmix=0.0, label_smoothing=smoothing, generator=generator)
    assert same is x
    assert generator.get_state().equal(seeded().get_state()), "nothing is drawn"
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(F.cross_entropy(logits, targets), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_targets_say_what_is_in_the_images(alphas: tuple[float, float]) -> None:
    for seed in range(30):
        x, labels = batch()
        before = x.clone()
        mixed, targets = mix(
            x, labels, CLASSES, mixup=alphas[0], cutmix=alphas[1], label_smoothing=0.0, generator=seeded(seed)
        )
        assert x.equal(before)
        assert mixed.shape == x.shape and mixed.is_contiguous(memory_format=torch.channels_last)
        assert targets.shape == (5, CLASSES) and targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(5))
        # the mean value of an image is that of the images it is made of, in the shares of the target
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets @ torch.arange(5.0), atol=1e-5, rtol=0)


def kinds(mixup: float, cutmix: float, draws: int = 200) -> list[str]:
    found = []
    for seed in range(draws):
        mixed, _ = mix(*batch(), CLASSES, mixup=mixup, cutmix=cutmix, label_smoothing=0.0, generator=seeded(seed))
        found.append("mixup" if len(mixed[2, 0].unique()) == 1 else "cutmix")
    return found


def test_one_of_the_two_a_batch() -> None:
    assert 70 < kinds(1.0, 1.0).count("cutmix") < 130
    assert set(kinds(1.0, 0.0)) == {"mixup"}
    assert kinds(0.0, 1.0).count("cutmix") > 185, "but for boxes without a pixel, or of all pixels"


def test_shares_are_of_the_beta_distribution() -> None:
    """Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))."""
    for alpha in (0.2, 1.0):
        shares = torch.stack([
            mix(*batch(), CLASSES, mixup=alpha, cutmix=0.0, label_smoothing=0.0, generator=seeded(seed))[1][0, 0]
            for seed in range(1000)
        ])  # fmt: skip
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


def test_a_box_is_one_rectangle_of_the_next_image() -> None:
    areas = []
    for seed in range(100):
        mixed, targets = mix(*batch(), CLASSES, mixup=0.0, cutmix=1.0, label_smoothing=0.0, generator=seeded(seed))
        pasted = mixed[3, 0] == 2
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert int(pasted.sum()) == int(rows * columns)
        assert float(targets[3, 2]) == pytest.approx(float(pasted.float().mean()), abs=1e-6)
        areas.append(float(pasted.float().mean()))
    assert max(areas) > 0.8 and min(areas) < 0.05


def test_smoothing_and_mixing_together() -> None:
    x, labels = batch()
    plain, soft = (
        mix(x, labels, CLASSES, mixup=1.0, cutmix=0.0, label_smoothing=s, generator=seeded(4))[1] for s in (0.0, 0.2)
    )
    torch.testing.assert_close(soft, 0.8 * plain + 0.2 / CLASSES)
    assert smoothed(labels, CLASSES, 0.2)[0].tolist() == pytest.approx([0.84, 0.04, 0.04, 0.04, 0.04])


def test_it_follows_its_generator() -> None:
    outs = [
        mix(*batch(), CLASSES, mixup=1.0, cutmix=1.0, label_smoothing=0.1, generator=seeded(seed)) for seed in (3, 3, 5)
    ]
    assert outs[0][0].equal(outs[1][0]) and outs[0][1].equal(outs[1][1])
    assert not outs[0][1].equal(outs[2][1])


def test_a_batch_of_one_is_left_as_it_is() -> None:
    for alphas in itertools.product((0.0, 1.0), repeat=2):
        x, labels = batch(1)
        mixed, targets = mix(
            x, labels, CLASSES, mixup=alphas[0], cutmix=alphas[1], label_smoothing=0.0, generator=seeded()
        )
        assert mixed.equal(x) and targets.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    for alphas in ((1.0, 0.0), (0.0, 1.0)):
        x, labels = batch()
        options = {"mixup": alphas[0], "cutmix": alphas[1], "label_smoothing": 0.1}
        here = mix(x, labels, CLASSES, **options, generator=seeded())
        there = mix(x.cuda(), labels.cuda(), CLASSES, **options, generator=seeded())
        for one, other in zip(here, there, strict=True):
            torch.testing.assert_close(other.cpu(), one)
