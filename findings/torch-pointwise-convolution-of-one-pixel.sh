#!/bin/sh
# torch 2.13.0 (oneDNN inside), x86 CPUs: a 1x1 convolution of a 1x1 map is the same product as a linear layer, but a
# training step through it takes two to five times as long, in float32 and under bfloat16 autocast.
#   64 images, two threads, forwards and backwards (ms):   conv2d   linear
#   960 -> 240 channels, float32                             5.4      1.8
#   960 -> 240 channels, bfloat16                            4.0      1.2
#   1280 -> 960 channels, float32                           24.3      6.3
#   1280 -> 960 channels, bfloat16                          21.8      4.0
# So the squeeze-and-excitation layers of a MobileNetV3, which published code writes as convolutions of pooled maps, and
# the convolution after the last pooling took a quarter of its training step at 48 pixels. The times are of one two-core
# machine; that the convolution takes more than 1.3 times as long, and gives the same numbers, is what is checked here.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import statistics
import sys
import time

import torch
from torch.nn import functional as F

torch.manual_seed(0)
slow = True
for inputs, outputs in ((960, 240), (1280, 960)):
    for low in (False, True):
        weight = torch.randn(outputs, inputs, 1, 1).requires_grad_()
        x = torch.randn(64, inputs, 1, 1).requires_grad_()

        def step(layer):
            weight.grad = x.grad = None
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                y = layer()
            y.sum().backward()
            return time.perf_counter() - start, weight.grad

        layers = (lambda: F.conv2d(x, weight), lambda: F.linear(x.flatten(1), weight.flatten(1)))
        times, gradients = ([], []), []
        for turn in range(40):
            for layer, taken in zip(layers, times):
                seconds, gradient = step(layer)
                taken.append(seconds)
                if turn == 0:
                    gradients.append(gradient)
        torch.testing.assert_close(*gradients, rtol=2e-2, atol=1e-2)
        conv, linear = (1000 * statistics.median(taken[5:]) for taken in times)
        print(f"{inputs} -> {outputs}, {'bfloat16' if low else 'float32'}: conv2d {conv:.1f} ms, linear {linear:.1f} ms")
        slow = slow and conv > 1.3 * linear
if not slow:
    sys.exit("this has changed: the convolution was more than 1.3 times as slow")
PY
