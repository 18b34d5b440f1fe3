#!/bin/sh
# huggingface_hub 2.4.0: hf_hub_download(etag_timeout=1) of a file that is not in the cache takes 23 seconds to say that
# nothing listens at the hub's port. The first request keeps to etag_timeout; then it is repeated with a time limit of
# 60 seconds, six times, with pauses of 1, 2, 4, 8 and 8 seconds. By its source, a hub that accepts connections and says
# nothing is given up after more than six minutes. get_hf_file_metadata, of the same library, says it at once.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check huggingface_hub==2.4.0
export HF_HOME="$folder/cache" HF_ENDPOINT="http://127.0.0.1:9"
"$folder/venv/bin/python" - 2>/dev/null <<'PY' || { echo "this has changed: it took more than 15 seconds"; exit 1; }
import time

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url


def seconds(function):
    began = time.monotonic()
    try:
        function()
    except Exception as error:
        print(f"{type(error).__name__} after {time.monotonic() - began:.1f} s")
    return time.monotonic() - began


probe = seconds(lambda: get_hf_file_metadata(hf_hub_url("owner/name", "model.bin"), timeout=1))
download = seconds(lambda: hf_hub_download("owner/name", "model.bin", etag_timeout=1))
assert probe < 5
assert download > 15
PY
