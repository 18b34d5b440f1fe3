"""The curves of a run's trainings, read back from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path

Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Network -> figure, such as loss or accuracy -> (epoch, value) in order."""

PREFIX = "train_"


def training_curves(folder: Path) -> Curves:
    """The curves that `TensorBoard.training` wrote into `folder`; empty where it wrote none."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # takes a second

    curves: Curves = {}
    if not folder.is_dir():
        return curves
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        name, _, figure = tag.removeprefix(PREFIX).rpartition("/")
        if tag.startswith(PREFIX):
            points = {event.step: float(event.value) for event in events.Scalars(tag)}
            curves.setdefault(name, {})[figure] = sorted(points.items())
    return curves
