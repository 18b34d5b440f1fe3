#!/bin/sh
# torch 2.13.0 (oneDNN inside), x86 CPUs with AVX512-BF16: in bfloat16 the gradients of some depthwise convolutions are
# computed by oneDNN's kernels for general convolutions, not by those for depthwise ones, as in float32.
#   gradient of the input, stride 2:      float32 jit_dw, bfloat16 brgconv_strided: 20 to 140 times as slow as float32
#   gradient of the input, stride 1:      jit_dw in both
#   gradient of a 3x3 kernel:             jit_dw in both
#   gradient of a 5x5 kernel:             jit in float32, jit_bf16 in bfloat16, 2 to 7 times as slow as float32
# So a MobileNet trains more slowly under bfloat16 autocast than in float32 there, although all its other layers are two
# to three times as fast. The times are of one two-core machine; the kernels' names are what is checked here.
# On another CPU there is nothing to see: exit 0 with a line that says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/gradients.py" <<'PY'
import torch

backward = torch.ops.aten.convolution_backward
for stride, kernel in ((1, 3), (2, 3), (1, 5), (2, 5)):
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4, 64, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(64, 1, kernel, kernel, dtype=dtype)
        y = torch.nn.functional.conv2d(x, weight, None, stride, kernel // 2, groups=64)
        print(f"case {str(dtype)[6:]} stride {stride} kernel {kernel}", flush=True)
        backward(torch.ones_like(y), x, weight, None, [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], 64,
                 [True, True, False])
PY
cat > "$folder/expected" <<'TXT'
float32 stride 1 kernel 3: backward_data jit_dw, backward_weights jit_dw
bfloat16 stride 1 kernel 3: backward_data jit_dw, backward_weights jit_dw
float32 stride 2 kernel 3: backward_data jit_dw, backward_weights jit_dw
bfloat16 stride 2 kernel 3: backward_data brgconv_strided, backward_weights jit_dw
float32 stride 1 kernel 5: backward_data jit_dw, backward_weights jit
bfloat16 stride 1 kernel 5: backward_data jit_dw, backward_weights jit_bf16
float32 stride 2 kernel 5: backward_data jit_dw, backward_weights jit
bfloat16 stride 2 kernel 5: backward_data brgconv_strided, backward_weights jit_bf16
TXT
ONEDNN_VERBOSE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/gradients.py" > "$folder/log"
if ! grep -q 'isa:Intel AVX-512 .*bfloat16 support' "$folder/log"; then
    echo "this CPU has no AVX512-BF16: nothing to see here"
    exit 0
fi
# such a line: onednn_verbose,v1,primitive,exec,cpu,convolution,jit_dw:avx512_core,backward_data,...
awk -F, '/^case/ { if (line) print line; line = substr($0, 6) ":"; mark = " " }
         $6 == "convolution" && $8 ~ /^backward/ { split($7, kernel, ":"); line = line mark $8 " " kernel[1]; mark = ", " }
         END { print line }' "$folder/log" > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" > /dev/null || { echo "this has changed: expected"; cat "$folder/expected"; exit 1; }
