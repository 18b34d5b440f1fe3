"""The model card states every figure, and preprocessing.json is enough to prepare an image."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnas.data.augment import MEAN, STD, normalise
from mnas.data.images import decode
from mnas.export.card import model_card
from mnas.export.preprocessing import write_preprocessing

WHERE: dict[str, Any] = {
    "device": "a 2-core x86 machine", "runtime": "torch", "threads": 1, "batch": 1, "budget_ms": 15.0, "how": "measured",  # noqa: E501
}  # fmt: skip
METRICS: dict[str, Any] = {
    "networks": [
        {
            "name": "winner", "role": "winner", "test_accuracy": 0.9731, "madds": 61_234_567, "params": 1_234_567,
            "latencies": [{
                **WHERE, "latency_ms": 11.234, "spread_ms": 0.31, "keeps": True,
                "exported_latency_ms": 4.321, "exported_spread_ms": 0.1, "exported_keeps": True,
            }],
            "keeps_budget": True, "resolution": 224, "accuracy_resolution": 224, "weights": "inherited",
        },
        {
            "name": "mobilenet_v3_large", "role": "baseline", "test_accuracy": 0.9694, "madds": 215_300_000,
            "params": 4_214_842, "latencies": [{**WHERE, "latency_ms": 17.5, "spread_ms": 0.42, "keeps": False}],
            "keeps_budget": False, "resolution": 224, "accuracy_resolution": 32, "weights": "inherited",
        },
    ],
    "latency": {**WHERE, "resolution": 224},
    "accuracy": {
        "resolution": 224, "data": "digits", "train_images": 1149, "val_images": 288, "test_images": 360, "epochs": 30,
    },
    "search": {
        "space": "v3_large", "objective": "mnasnet", "sampler": "tpe", "trials": 57, "seed": 3, "elapsed_s": 3725.2,
        "estimator": "supernet", "chosen_trial": 12, "chosen_estimate": 0.9512, "chosen_grade": "fine-tuned",
    },
    "versions": {"mnas": "0.1.0", "torch": "2.13.0"},
    "date": "2026-11-20",
}  # fmt: skip
FILES = ["model.py", "weights.safetensors", "model.onnx", "own_file.txt"]


def card(metrics: dict[str, Any] = METRICS, classes: tuple[str, ...] = ("zero", "one")) -> str:
    return model_card(title="A network for digits", metrics=metrics, classes=classes, files=FILES)


def changed(*place: str | int, value: Any) -> dict[str, Any]:
    metrics = copy.deepcopy(METRICS)
    part: Any = metrics
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return metrics


def test_card_has_every_figure() -> None:
    text = card()
    for figure in (
        "# A network for digits", "97.31%", "61.23 M", "1,234,567", "11.23 (0.31)", "4.32", "96.94%", "215.30 M",
        "4,214,842", "17.50 (0.42)", "not measured", "a 2-core x86 machine", "torch", "1 thread,", "batch 1",
        "224 |", "224 (accuracy 32)", "budget 15.00 ms", "digits, 360 test images", "1,149 images for 30 epochs",
        "288 more", "v3_large", "mnasnet", "tpe, 57 trials, seed 3", "1 h 2 min 5 s", "2026-11-20",
        "mnas 0.1.0, torch 2.13.0", "zero, one", "keeps the budget: 11.23 +- 0.31 of 15.00 ms with torch",
        "between 95.07% and 98.55% (95%", "`own_file.txt`",
        "The weights derive from your data",
        "chosen candidate: 95.12%, accuracy after a short training on from the supernet's weights",
        "winner: 30 epochs from weights inherited from the supernet, its largest network as teacher",
        *(f"`{name}`" for name in FILES),
    ):  # fmt: skip
        assert figure in text, figure
    assert "do not speak of one use" not in text
    assert "more accurate than" not in text
    assert "may come from that" not in text


def test_table_is_a_table() -> None:
    rows = [line for line in card(changed("networks", 1, "name", value="a|b\nc")).splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
    without = copy.deepcopy(METRICS)
    del without["networks"][0]["latencies"][0]["exported_latency_ms"]
    assert "as exported" not in card(without)


@pytest.mark.parametrize(
    ("place", "value", "note"),
    [
        (("accuracy", "resolution"), 32, "Accuracy was measured at 32x32, latency at 224x224"),
        (("networks", 0, "latencies", 0, "keeps"), False, "does NOT keep the budget: 11.23 +- 0.31 of 15.00 ms"),
        (("networks", 0, "latencies", 0, "keeps"), False, "The exported file takes 4.32 +- 0.10 ms, on the budget's other"),  # noqa: E501
        (("networks", 0, "latencies", 0, "budget_ms"), None, "no budget"),
        (("networks", 0, "latencies", 0, "how"), "predicted", "predicted by the table of a 2-core x86 machine, not meas"),  # noqa: E501
        (("networks", 0, "latencies", 0, "how"), "predicted", "By the table of a 2-core x86 machine, not measured, the"),  # noqa: E501
        (("limits",), {"max_params": 2_000_000}, "takes 1,234,567 of the 2,000,000 parameters that were allowed"),
        (("networks", 0, "test_accuracy"), 1.0, "between 98.94% and 100.00%"),
        (("search", "elapsed_s"), 0.2, "time: under a second"),
        (("search", "chosen_grade"), "inherited", "95.12%, accuracy with the supernet's weights as they are"),
        (("search", "chosen_grade"), "trained", "95.12%, accuracy after a short training from fresh weights"),
        (("search", "chosen_grade"), "zero-cost", "95.12%, a score of the untrained network, no accuracy"),
        (("search", "chosen_grade"), "", "95.12%, by an earlier version of mnas"),
        (("search", "chosen_grade"), "own", "95.12%, as the given estimator says"),
        (("search", "replaced_by"), "mobilenet_v3_large", "mobilenet_v3_large was more accurate and is the winner in"),
        (("networks", 0, "weights"), "scratch", "winner: 30 epochs from fresh weights"),
        (("networks", 0, "weights"), "scratch", "mobilenet_v3_large was trained 30 epochs from weights inherited from"),
        (("networks", 1, "weights"), "scratch", "mobilenet_v3_large was trained 30 epochs from fresh weights, the win"),
        (("networks", 0, "epochs"), 12, "winner: 12 epochs from weights inherited"),
        (("networks", 0, "epochs"), 12, "trained on 1,149 images for 12 to 30 epochs,"),
        (("search", "importance"), {"stage3.kernel": 0.2, "resolution": 0.41}, "(fANOVA): resolution 41%, stage3"),
        (("search", "random"), {
            "trials": 24, "best_accuracy": 0.91, "best_latency_ms": 3.0, "search_best_accuracy": 0.95,
            "search_best_latency_ms": 4.0,
        }, "24 evaluations each, the best estimate within the budget is 95.00% at 4.00 ms; of random candidates it is"),
        (("search", "random"), {
            "trials": 1, "best_accuracy": None, "best_latency_ms": None, "search_best_accuracy": 0.95,
            "search_best_latency_ms": 4.0,
        }, "1 evaluation each, the best estimate within the budget is 95.00% at 4.00 ms; of random candidates it is n"),
        (("search", "front"), [
            {"trial": 3, "accuracy": 0.9, "latency_ms": 2.0, "knee": False},
            {"trial": 7, "accuracy": 0.95, "latency_ms": 4.0, "knee": True},
        ], "| 3 | 90.00% | 2.00 |\n| 7 (knee) | 95.00% | 4.00 |"),
    ],
)  # fmt: skip
def test_card_is_honest(place: tuple[str | int, ...], value: Any, note: str) -> None:
    assert note in card(changed(*place, value=value))


def test_card_names_a_baseline_that_is_better_within_the_budget() -> None:
    metrics = changed("networks", 1, "test_accuracy", value=0.99)
    assert "mobilenet_v3_large was more accurate" not in card(metrics)  # 17.5 ms: over the budget
    metrics["networks"][1]["keeps_budget"] = True
    told = "mobilenet_v3_large was more accurate than the winner on the test split (99.00% against 97.31%)"
    assert told in card(metrics)


def test_card_of_a_network_that_was_trained_alone() -> None:
    metrics = {key: value for key, value in METRICS.items() if key != "search"}
    metrics["networks"] = [{key: value for key, value in METRICS["networks"][0].items() if key != "weights"}]
    assert "How it was found" not in card(metrics)
    assert "supernet" not in card(metrics)


def test_card_of_two_devices() -> None:
    metrics = copy.deepcopy(METRICS)
    phone = {**WHERE, "device": "a phone", "runtime": "tflite", "budget_ms": 30.0, "how": "predicted"}
    for network, ms in zip(metrics["networks"], (29.0, None), strict=True):
        how = "predicted" if ms else "not in the table"
        network["latencies"].append({**phone, "how": how, "latency_ms": ms, "spread_ms": 0.5, "keeps": ms and True})
    text = card(metrics)
    for figure in (
        "found by mnas for a 2-core x86 machine and a phone", "| latency 1 (spread), ms | as exported 1, ms |",
        "| latency 2 (spread), ms |", "| 29.00 (0.50) |", "| not in the table |", "Latency 1: measured on a 2-core x86",
        "Latency 2: predicted by the table of a phone, not measured; tflite, 1 thread, batch 1; budget 30.00 ms.",
        "By the table of a phone, not measured, the winner keeps the budget: 29.00 +- 0.50 of 30.00 ms with tflite",
    ):  # fmt: skip
        assert figure in text, figure
    assert {row.count("|") for row in text.splitlines() if row.startswith("|")} == {10}


def test_many_classes_are_cut_short() -> None:
    text = card(classes=tuple(f"class{i}" for i in range(100)))
    assert "class19 and 80 more." in text and "class20" not in text


def test_the_cards_python_is_three_lines_that_compile() -> None:
    code = card().split("```python\n")[1].split("\n```")[0]
    assert len(code.splitlines()) == 3
    compile(code, "README.md", "exec")


@pytest.mark.parametrize("shape", [(90, 60), (48, 120), (24, 24)])
def test_preprocessing_is_enough_to_reimplement_it(shape: tuple[int, int], tmp_path: Path) -> None:
    height, width = shape
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    pixels = np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, resolution=32, classes=("a", "日本"), mean=MEAN, std=STD)
    spec = json.loads(path.read_text())
    assert spec["classes"] == ["a", "日本"] and spec["output"]["shape"] == ["batch", 2]

    factor = spec["resize"]["shorter_side"] / min(height, width)
    image = Image.open(tmp_path / "image.png").convert(spec["decode"]["channel_order"])
    image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
    top, left = (image.height - spec["crop"]["height"]) // 2, (image.width - spec["crop"]["width"]) // 2
    values = np.asarray(image)[top : top + spec["crop"]["height"], left : left + spec["crop"]["width"]]
    rule = spec["normalise"]
    prepared = ((values * rule["scale"] - rule["mean"]) / rule["std"]).transpose(2, 0, 1)[None]

    ours = torch.from_numpy(decode(str(tmp_path / "image.png"), 32).copy()).permute(2, 0, 1)[None]
    assert list(prepared.shape[1:]) == spec["input"]["shape"][1:]
    assert np.abs(prepared - normalise(ours, 32).numpy()).max() < 0.05
