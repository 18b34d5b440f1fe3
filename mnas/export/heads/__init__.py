"""What the files and pictures of networks with a head are, for each task: one small object each, by the task's name."""

from __future__ import annotations

from mnas.export.heads.detection import BoxesForm
from mnas.export.heads.form import Form
from mnas.export.heads.segmentation import MasksForm

FORMS: dict[str, Form] = {"segmentation": MasksForm(), "detection": BoxesForm()}
"""By the task's name."""
