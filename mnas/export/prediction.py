"""Source text of predict(path) and preprocess(path) in model.py: one preprocessing, by pillow and torch."""

from __future__ import annotations

from mnas.data.augment import MEAN, STD
from mnas.data.reading import PADDING, Reading
from mnas.export.templates import environment
from mnas.io.size import Size


def predict_source(size: Size, reading: Reading) -> str:
    """The functions that classify an image file, for networks of this input size whose images are read so."""
    return _rendered("predict.py.j2", size, reading)


def preprocess_source(size: Size, reading: Reading) -> str:
    """The function that makes an image file a network's input."""
    return _rendered("preprocess.py.j2", size, reading)


def _rendered(template: str, size: Size, reading: Reading) -> str:
    channels, value_range = reading.channels, reading.value_range
    low, high = value_range or (0.0, 0.0)
    return environment().get_template(template).render(
        square=isinstance(size, int), fit=reading.fit, channels=channels, value_range=value_range,
        low=low, scale=255 / (high - low) if high > low else 0.0,
        mean=MEAN[:channels], std=STD[:channels], padding=PADDING if channels == 3 else PADDING[0],
    ).rstrip()  # fmt: skip
