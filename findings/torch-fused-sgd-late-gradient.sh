#!/bin/sh
# torch 2.13.0, CPU: SGD(momentum=0.9, fused=True) cannot train a parameter whose first gradient comes later than another's of
# the same group, as when layers are unfrozen or paths of a supernet are sampled: its momentum buffers are made in the first
# step, of the parameters that have a gradient then, and the next step raises a TypeError about None. The same
# optimizer without fused=True trains on. mnas makes all buffers at the start.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/late.py" <<'PY'
import torch


def second_step(fused: bool) -> str:
    first, later = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([first, later], lr=0.1, momentum=0.9, fused=fused)
    first.grad = torch.ones(3)
    sgd.step()
    later.grad = torch.ones(3)
    try:
        sgd.step()
    except TypeError as error:
        return f"TypeError: {error}"
    return f"trains on: {later.detach().tolist()}"


seen = {fused: second_step(fused) for fused in (False, True)}
print(torch.__version__, seen)
assert seen[False].startswith("trains on") and "NoneType" in seen[True], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/late.py"
