#!/bin/sh
# torch 2.13.0 (oneDNN inside), x86 CPUs with AVX512-BF16: in bfloat16 the gradient of a depthwise kernel at stride 2 is not
# computed where the map is one column wide: the kernel's outer columns, which meet no pixel and should get 0, get
# whatever was in the memory, such as 1e30 or NaN. Of rows there is no such thing, nor in float32.
# On another CPU there may be nothing to see: exit 0 with a line that says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/gradients.py" <<'PY'
import torch

wrong = {}
for shape in ((3, 1), (1, 3), (3, 3)):
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(2, 8, *shape).contiguous(memory_format=torch.channels_last)
        exact = torch.nn.grad.conv2d_weight(x, (8, 1, 3, 3), torch.ones(2, 8, -(-shape[0] // 2), -(-shape[1] // 2)), 2, 1,
                                            groups=8)
        seen = []
        for _ in range(20):
            weight = torch.ones(8, 1, 3, 3, dtype=dtype, requires_grad=True)
            y = torch.nn.functional.conv2d(x.to(dtype), weight, None, 2, 1, groups=8)
            junk = [torch.full((count,), 1e30) for count in (*range(8, 300), 512, 800, 1024, 4096) for _ in range(3)]
            del junk  # what is freed is what the gradient finds
            y.backward(torch.ones_like(y))
            seen.append(bool((weight.grad.float() - exact).abs().max() < 0.1))
        wrong[shape, dtype] = not all(seen)
        print(f"map {shape[0]}x{shape[1]} {str(dtype)[6:]}: {'anything' if wrong[shape, dtype] else 'right'}")
expected = {key: key == ((3, 1), torch.bfloat16) for key in wrong}
if not any(wrong.values()):
    print("nothing to see on this CPU, or it is mended")
elif wrong != expected:
    raise SystemExit("this has changed")
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/gradients.py"
