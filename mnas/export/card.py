"""What goes with a network's files: how images are prepared, and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_CLASSES, SHOWN_CHOICES = 20, 5
ABOUT_FILES = {
    "model.py": "the network in PyTorch; it imports torch alone",
    "weights.safetensors": "its trained weights, float32",
    "weights.safetensors.sha256": "their checksum, which model.py compares on loading",
    "architecture.yaml": "the architecture as mnas reads it",
    "preprocessing.json": "how an image becomes the network's input, and the classes",
    "metrics.json": "the figures below",
    "model.onnx": "the network in ONNX: `images` (batch, 3, height, width) to `logits`",
    "model.tflite": "the network in LiteRT's format, of the size and batch whose latency is told below",
    "model.pte": "the network in ExecuTorch's format, of the size and batch whose latency is told below",
}
LIMITED = {
    "max_params": ("params", "parameters"), "max_madds": ("madds", "multiply-adds"),
    "max_memory_mb": ("activation_mb", "MB of activations"),
}  # fmt: skip
ESTIMATES = {
    "trained": "accuracy after a short training from fresh weights",
    "inherited": "accuracy with the supernet's weights as they are",
    "fine-tuned": "accuracy after a short training on from the supernet's weights",
    "zero-cost": "a score of the untrained network, no accuracy",
    "own": "as the given estimator says",
}
"""What a search knew of a candidate, by its grade."""
BEGAN = {
    "scratch": "from fresh weights",
    "inherited": "from weights inherited from the supernet, its largest network as teacher",
}




def model_card(*, title: str, metrics: Mapping[str, Any], classes: Sequence[str], files: Sequence[str]) -> str:
    """README.md of the winner's folder, out of the data of metrics.json."""
    sections = {
        "Use": _use(metrics["accuracy"]["resolution"]),
        "Files": _files(files),
        "Preprocessing": _preprocessing(metrics["accuracy"]["resolution"], classes),
        "Figures": _figures(metrics),
        **({"How it was found": _search(metrics)} if "search" in metrics else {}),
        "To read these figures rightly": _notes(metrics),
        "Limits": _limits(len(classes)),
        "Licence": _licence(metrics["accuracy"]["data"]),
    }
    winner = _main(metrics)
    how = "found by mnas for" if "search" in metrics else "trained by mnas, timed on"
    what = (
        f"An image classifier for {len(classes)} classes: a network of {winner['params']:,} parameters and "
        f"{_millions(winner['madds'])} multiply-adds at {winner['resolution']} px, {how} "
        f"{' and '.join(dict.fromkeys(_plain(target['device']) for target in winner['latencies']))}."
        if winner
        else f"An image classifier for {len(classes)} classes."
    )
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"# {_plain(title)}\n\n{what}\n\n{body}\n"


def _use(resolution: int) -> str:
    return (
        "```python\nimport torch\nfrom model import CLASSES, build_model\n"
        f"logits = build_model()(torch.zeros(1, 3, {resolution}, {resolution}))  # images prepared as below\n```\n\n"
        "`CLASSES[logits.argmax()]` is the answer; `logits.softmax(1)` are the probabilities. Start Python in "
        "this folder."
    )


def _files(files: Sequence[str]) -> str:
    return "\n".join(f"- `{name}`" + (f": {ABOUT_FILES[name]}" if name in ABOUT_FILES else "") for name in files)


def _preprocessing(resolution: int, classes: Sequence[str]) -> str:
    shown = ", ".join(_plain(name) for name in classes[:SHOWN_CLASSES])
    rest = f" and {len(classes) - SHOWN_CLASSES} more" if len(classes) > SHOWN_CLASSES else ""
    return (
        f"RGB, shorter side resized to {resolution} pixels (bilinear, antialiased), centre crop of "
        f"{resolution}x{resolution}, values divided by 255, then normalised by channel. preprocessing.json has each "
        "step and number.\n\n"
        f"Classes, in the order of the logits: {shown}{rest}."
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    networks = metrics["networks"]
    targets, accuracy = networks[0]["latencies"], metrics["accuracy"]
    has_exported = ["exported_latency_ms" in target for target in targets]
    heads = ["network", "role", "test accuracy", "MAdds", "parameters", "pixels"]
    for number, exported in enumerate(has_exported, start=1):
        which = f" {number}" * (len(targets) > 1)
        heads += [f"latency{which} (spread), ms"] + [f"as exported{which}, ms"] * exported
    rows = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    for network in networks:
        row = [
            _plain(network["name"]), network["role"], _percent(network["test_accuracy"]), _millions(network["madds"]),
            f"{network['params']:,}", _pixels(network),
        ]  # fmt: skip
        for latency, exported in zip(network["latencies"], has_exported, strict=True):
            row += [_latency(latency)] + [_ms(latency.get("exported_latency_ms"))] * exported
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    told = "".join(
        f"Latency{f' {number}' * (len(targets) > 1)}: {_told(target)}\n"
        for number, target in enumerate(targets, start=1)
    )
    what_for = "for the search's choices" if "search" in metrics else "to watch it"
    return (
        f"{table}\n\n{told}"
        f"Accuracy: {_plain(accuracy['data'])}, {accuracy['test_images']:,} test images; trained on "
        f"{accuracy['train_images']:,} images for "
        f"{_epochs(metrics)}, {accuracy['val_images']:,} more {what_for}. "
        "1 MAdd = 2 FLOPs."
    )


def _epochs(metrics: Mapping[str, Any]) -> str:
    """How long the networks were trained, all of them."""
    each = sorted({network.get("epochs", metrics["accuracy"]["epochs"]) for network in metrics["networks"]})
    return _count(each[0], "epoch") if len(each) == 1 else f"{each[0]} to {_count(each[-1], 'epoch')}"


def _trained(network: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """How long one of a search's networks was trained, and from where."""
    return f"{_count(network.get('epochs', metrics['accuracy']['epochs']), 'epoch')} {BEGAN[network['weights']]}"


def _latency(latency: Mapping[str, Any]) -> str:
    if latency["latency_ms"] is None:
        return str(latency["how"])
    return _ms(latency["latency_ms"]) + (f" ({_ms(latency['spread_ms'])})" if latency["spread_ms"] else "")


def _told(target: Mapping[str, Any]) -> str:
    """Where a column of latencies comes from."""
    device, budget_ms = _plain(target["device"]), target["budget_ms"]
    how = {
        "measured": f"measured on {device}", "given": f"given for {device}",
        "predicted": f"predicted by the table of {device}, not measured",
    }[target["how"]]  # fmt: skip
    budget = "no budget" if budget_ms is None else f"budget {_ms(budget_ms)} ms"
    threads = _count(target["threads"], "thread")
    return f"{how}; {_plain(target['runtime'])}, {threads}, batch {target['batch']}; {budget}."


def _search(metrics: Mapping[str, Any]) -> str:
    search, winner = metrics["search"], metrics["networks"][0]
    versions = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in metrics["versions"].items())
    return (
        f"- search space: {_plain(search['space'])}\n- objective: {_plain(search['objective'])}\n"
        f"- sampler: {_plain(search['sampler'])}, {_count(search['trials'], 'trial')}, seed {search['seed']}\n"
        f"- estimate of the chosen candidate: {_percent(search['chosen_estimate'])}, "
        f"{ESTIMATES.get(search['chosen_grade'], 'by an earlier version of mnas')}{_replaced(search)}\n"
        f"- training of the winner: {_trained(winner, metrics)}\n"
        f"{_importance(search)}{_random(search)}"
        f"- time: {_duration(search['elapsed_s'])}\n- date: {_plain(metrics['date'])}\n- versions: {versions}"
        f"{_front(search)}"
    )


def _replaced(search: Mapping[str, Any]) -> str:
    """Where another network turned out to be more accurate than the chosen one."""
    name = search.get("replaced_by")
    return f"; fully trained, {_plain(name)} was more accurate and is the winner in its place" if name else ""


def _importance(search: Mapping[str, Any]) -> str:
    """What decided the estimates, the greatest first."""
    shares = sorted(search.get("importance", {}).items(), key=lambda item: -item[1])[:SHOWN_CHOICES]
    if not shares:
        return ""
    named = ", ".join(f"{_plain(name)} {share:.0%}" for name, share in shares)
    return f"- what decided the estimates, a rough share of their differences (fANOVA): {named}\n"


def _random(search: Mapping[str, Any]) -> str:
    """How far as many random candidates came."""
    if "random" not in search:
        return ""
    found = search["random"]
    reached = [
        "no candidate" if found[f"{who}best_accuracy"] is None
        else f"{_percent(found[f'{who}best_accuracy'])} at {_ms(found[f'{who}best_latency_ms'])} ms"
        for who in ("search_", "")
    ]  # fmt: skip
    return (
        f"- against random search: after {_count(found['trials'], 'evaluation')} each, the best estimate within the "
        f"budget is {reached[0]}; of random candidates it is {reached[1]}\n"
    )


def _front(search: Mapping[str, Any]) -> str:
    """Of a search for a front: its candidates, with the knee marked."""
    rows = [
        f"| {one['trial']}{' (knee)' * one['knee']} | {_percent(one['accuracy'])} | {_ms(one['latency_ms'])} |"
        for one in search.get("front", [])
    ]
    if not rows:
        return ""
    heads = ["| trial of the front | estimated accuracy | latency by the search, ms |", "|---:|---:|---:|"]
    return "\n\n" + "\n".join([*heads, *rows])


def _notes(metrics: Mapping[str, Any]) -> str:
    latency, accuracy = metrics["latency"], metrics["accuracy"]
    notes = []
    if accuracy["resolution"] != latency["resolution"]:
        notes.append(
            f"Accuracy was measured at {accuracy['resolution']}x{accuracy['resolution']}, latency at "
            f"{latency['resolution']}x{latency['resolution']}: the two columns do not speak of one use of the network."
        )
    notes.append(
        "Each network was trained once. Differences between networks that are smaller than the uncertainty of the test "
        "split, stated next, may be chance."
    )
    winner, searched = _main(metrics), "search" in metrics
    if winner:
        whose = "the winner's" if searched else "its"
        notes.append(_uncertainty(winner["test_accuracy"], accuracy["test_images"], whose))
        notes += [note for target in winner["latencies"] for note in _against_budget(target)]
        notes += [_limit(winner, name, most) for name, most in metrics.get("limits", {}).items()]
        notes += [_rival(winner, other) for other in metrics["networks"] if _beats(other, winner)]
        notes += [
            f"{_plain(other['name'])} was trained {_trained(other, metrics)}, the winner {_trained(winner, metrics)}: "
            "a part of their difference may come from that."
            for other in metrics["networks"] if other.get("weights") != winner.get("weights")
        ]
    other = ", and perhaps another winner" if searched else ""
    notes.append(f"Another device, runtime, thread count or batch gives other latencies{other}.")
    return "\n".join(f"- {note}" for note in notes)


def _pixels(network: Mapping[str, Any]) -> str:
    """The size that latency speaks of, and that of accuracy where it is another one."""
    size, trained = network["resolution"], network["accuracy_resolution"]
    return str(size) if size == trained else f"{size} (accuracy {trained})"


def _main(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The network that the card is of: the winner of a search, or the one that was asked for."""
    return next((network for network in metrics["networks"] if network["role"] in ("winner", "trained")), None)


def _uncertainty(accuracy: float, images: int, whose: str) -> str:
    """Wilson's interval, which is not empty at 100% either."""
    z = 1.96
    half = math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2) * z
    centre, scale = accuracy + z * z / (2 * images), 1 + z * z / images
    low, high = (centre - half) / scale, (centre + half) / scale
    return (
        f"With {images:,} test images, {whose} accuracy on such images lies between {_percent(low)} and "
        f"{_percent(high)} (95% confidence)."
    )


def _against_budget(latency: Mapping[str, Any]) -> list[str]:
    """Whether the winner keeps a budget with its uncertainty, and its exported file too."""
    if latency["keeps"] is None:
        return []
    how = {
        "measured": "Measured as a whole network", "given": "As given",
        "predicted": f"By the table of {_plain(latency['device'])}, not measured",
    }[latency["how"]]  # fmt: skip
    budget, verdict = _ms(latency["budget_ms"]), "keeps" if latency["keeps"] else "does NOT keep"
    takes = _ms(latency["latency_ms"]) + (f" +- {_ms(latency['spread_ms'])}" if latency["spread_ms"] else "")
    notes = [f"{how}, the winner {verdict} the budget: {takes} of {budget} ms with {_plain(latency['runtime'])}."]
    if latency.get("exported_keeps", latency["keeps"]) != latency["keeps"]:
        notes.append(
            f"The exported file takes {_ms(latency['exported_latency_ms'])} +- {_ms(latency['exported_spread_ms'])} "
            "ms, on the budget's other side."
        )
    return notes


def _limit(winner: Mapping[str, Any], name: str, most: float) -> str:
    field, unit = LIMITED[name]
    return f"The winner takes {winner[field]:,.10g} of the {most:,.10g} {unit} that were allowed."


def _beats(other: Mapping[str, Any], winner: Mapping[str, Any]) -> bool:
    budgets = [latency["budget_ms"] for latency in winner["latencies"]]
    within = other["keeps_budget"] or None in budgets
    return other is not winner and within and bool(other["test_accuracy"] >= winner["test_accuracy"])


def _rival(winner: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    word = "as accurate as" if other["test_accuracy"] == winner["test_accuracy"] else "more accurate than"
    return (
        f"{_plain(other['name'])} was {word} the winner on the test split ({_percent(other['test_accuracy'])} against "
        f"{_percent(winner['test_accuracy'])}) within the same latency limit. The test split chose nothing."
    )


def _limits(num_classes: int) -> str:
    return (
        f"The network always answers one of its {num_classes} classes, also for images of none of them. Its "
        "probabilities are not calibrated. It was tested on images like the training data's, not on others, and not "
        "for fairness or safety: test it on your own before decisions depend on it."
    )


def _licence(data: str) -> str:
    return (
        f"The weights derive from your data, the images that they were trained on ({_plain(data)}): the terms of that "
        "data decide how the weights may be used and passed on."
    )


def _plain(text: object) -> str:
    """Text that neither ends a table's cell nor a line."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _percent(part: float) -> str:
    return f"{100 * part:.2f}%"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M"


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.2f}"


def _count(number: int | None, noun: str) -> str:
    return f"{'no' if number is None else f'{number:,}'} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "under a second"
