#!/bin/sh
# huggingface_hub 2.4.0: a file that was missing from a repository once is noted as missing in the cache (.no_exist), under
# the commit of the answer. When the same commit has it later, as behind a mirror that was not complete yet,
# hf_hub_download downloads it and leaves the note. try_to_load_from_cache then goes on saying that it does not exist,
# beside the file that is there. So a program that looks there first never finds it offline.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check huggingface_hub==2.4.0
export HF_HOME="$folder/cache"
"$folder/venv/bin/python" - <<'PY'
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = b"weights"
complete = False


class Mirror(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if complete else 404)
        for name, value in {
            "X-Repo-Commit": "0" * 40, "ETag": '"1234"', "Content-Length": str(len(CONTENT) if complete else 0),
            **({} if complete else {"X-Error-Code": "EntryNotFound"}),
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if complete:
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError

try:
    hf_hub_download("owner/name", "model.bin")
except EntryNotFoundError:
    complete = True
path = hf_hub_download("owner/name", "model.bin")
assert open(path, "rb").read() == CONTENT
found = try_to_load_from_cache("owner/name", "model.bin")
print(f"downloaded to the cache: {os.path.basename(path)}; looked up there: {found}")
if found == path:
    sys.exit("this has changed: the file was not found in the cache")
PY
