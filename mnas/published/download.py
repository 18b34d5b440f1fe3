"""A program of its own: huggingface_hub downloads one file into its cache, and gives up early.

    python download.py REPO FILE ANSWER_S STALLED_S

It prints a line each when it begins, when the hub has answered, and in the end `got PATH` or `failed REASON`. By itself
the library would retry a hub that is silent for six minutes, or wait for as long as an answer 429 tells it to.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from typing import Any

MOST_REQUESTS = 2
"""Of one method to one address: a download that breaks off is taken up once."""


class GivenUp(Exception):
    """Why a file cannot be had."""


def main() -> None:
    """Download, say how it went."""
    repo, file, answer_s, stalled_s = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end)  # as an exception, so that the library removes its temporary file
    try:
        say("got", _download(repo, file, float(answer_s), float(stalled_s)))
    except KeyboardInterrupt:
        say("failed", "interrupted")
    except Exception as error:
        say("failed", _reason(error, float(answer_s)))


def say(*words: str) -> None:
    print(*words, flush=True)


def _download(repo: str, file: str, answer_s: float, stalled_s: float) -> str:
    from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_download, hf_hub_url

    asked: Counter[tuple[str, str]] = Counter()

    def before(request: Any) -> None:
        once = request.method, str(request.url)
        asked[once] += 1
        if asked[once] > MOST_REQUESTS:
            raise GivenUp(f"the download broke off or stalled for {stalled_s:g} s, twice")
        seconds = answer_s if request.method == "HEAD" else stalled_s
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), seconds)

    def after(response: Any) -> None:
        if response.status_code >= 400:
            raise GivenUp(f"HTTP {response.status_code}")
        if response.status_code < 300 and "html" in response.headers.get("Content-Type", ""):
            raise GivenUp("a web page in place of weights")

    hooks = get_session().event_hooks
    get_session().event_hooks = {
        "request": [*hooks.get("request", ()), before], "response": [*hooks.get("response", ()), after],
    }  # fmt: skip
    say("asks")
    answer = get_hf_file_metadata(hf_hub_url(repo, file), timeout=answer_s)
    if answer.commit_hash is None or answer.etag is None:
        raise GivenUp("not a hub: its answer has no commit or no checksum")
    say("answered")
    return str(hf_hub_download(repo, file, etag_timeout=answer_s))


def _end(*_: object) -> None:
    sys.exit(1)


def _reason(error: Exception, answer_s: float) -> str:
    kind, text = type(error).__name__, " ".join(str(error).split()[:30])
    if "Timeout" in kind:
        return f"no answer within {answer_s:g} s"
    return f"no connection: {text}" if kind == "ConnectError" else text or kind


if __name__ == "__main__":
    main()
