#!/bin/sh
# torch 2.13.0 (oneDNN inside), x86 CPUs with AVX-512, float32: the gradients of dilated depthwise convolutions, as in
# the last stages of a backbone at output stride 16, are not computed by oneDNN's kernels for depthwise convolutions, but
# by those for general ones, although the forward pass is. Of 16 maps of 576 channels and 8x8, dilation 2, one thread:
#   gradient of the input:         jit_dw without dilation, jit with it: 7 (3x3) and 15 (5x5) times as slow
#   gradient of a 3x3 kernel:      jit_dw without dilation, jit with it: 37 times as slow
#   gradient of a 5x5 kernel:      jit without dilation, gemm with it: 2.5 times as slow
# The same convolution of every second row and column, as a batch of four times as many maps, has the fast gradients; so
# a training step of MobileNetV3-Small under LR-ASPP takes less than half the time. The times are of one two-core machine;
# the kernels' names are what is checked here. On another CPU there is nothing to see: exit 0 with a line that says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/gradients.py" <<'PY'
import torch

backward = torch.ops.aten.convolution_backward
for kernel in (3, 5):
    for dilation in (1, 2):
        padding = dilation * (kernel // 2)
        x = torch.randn(16, 576, 8, 8).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(576, 1, kernel, kernel)
        y = torch.nn.functional.conv2d(x, weight, None, 1, padding, dilation, groups=576)
        print(f"case kernel {kernel} dilation {dilation}", flush=True)
        backward(torch.ones_like(y), x, weight, None, [1, 1], [padding] * 2, [dilation] * 2, False, [0, 0], 576,
                 [True, True, False])
PY
cat > "$folder/expected" <<'TXT'
kernel 3 dilation 1: backward_data jit_dw, backward_weights jit_dw
kernel 3 dilation 2: backward_data jit, backward_weights jit
kernel 5 dilation 1: backward_data jit_dw, backward_weights jit
kernel 5 dilation 2: backward_data jit, backward_weights x64
TXT
ONEDNN_VERBOSE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/gradients.py" > "$folder/log"
if ! grep -q 'isa:Intel AVX-512' "$folder/log"; then
    echo "this CPU has no AVX-512: nothing to see here"
    exit 0
fi
# such a line: onednn_verbose,v1,primitive,exec,cpu,convolution,jit_dw:avx512_core,backward_data,...
awk -F, '/^case/ { if (line) print line; line = substr($0, 6) ":"; mark = " " }
         $6 == "convolution" && $8 ~ /^backward/ { split($7, kernel, ":"); line = line mark $8 " " kernel[1]; mark = ", " }
         END { print line }' "$folder/log" > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" > /dev/null || { echo "this has changed: expected"; cat "$folder/expected"; exit 1; }
