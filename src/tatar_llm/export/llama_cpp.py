"""llama.cpp in a process of its own: a file that makes it crash must not take us along.

    python -m tatar_llm.export.llama_cpp MODEL.gguf < questions.json > answers.json
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any


class LlamaCpp:
    """A GGUF file served by llama.cpp on loopback."""

    def __init__(self, file: str, context: int, threads: int = 0, texts: int = 1) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = file
        params.n_ctx, params.n_parallel, params.n_predict = context * texts, texts, -1
        params.verbosity, params.warmup, params.cache_prompt = 0, False, False
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self.server = xllamacpp.Server(params)

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of one of llama.cpp's HTTP endpoints."""
        address = f"{self.server.listening_address}{path}"
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy is set
        with opener.open(request, timeout=300) as answer:
            return json.loads(answer.read())

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, <bos> in front; special tokens typed in it are text."""
        return self.ask("/tokenize", {"content": text, "add_special": True, "parse_special": False})["tokens"]

    def greedy(self, prompt: list[int], steps: int) -> list[tuple[int, float | None]]:
        """The likeliest continuation, until a token that ends it: ids with their log-probabilities.

        llama.cpp tells no log-probabilities of a text that ends in the middle of a letter; they are None then.
        """
        answer = self.ask("/completion", {
            "prompt": prompt, "temperature": 0, "n_predict": steps, "n_probs": 1, "return_tokens": True, "cache_prompt": False,
        })  # fmt: skip
        told = answer.get("completion_probabilities", [])
        scores = [token["logprob"] for token in told] if [token["id"] for token in told] == answer["tokens"] else []
        return [(token, scores[place] if scores else None) for place, token in enumerate(answer["tokens"])]


def main() -> None:
    """Answer the questions on standard input; llama.cpp's own output goes to standard error."""
    answers = os.dup(1)
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    llama = LlamaCpp(sys.argv[1], asked["context"])
    found = {
        "ids": [llama.ids(text) for text in asked["texts"]],
        "tokens": [llama.greedy(prompt, asked["steps"]) for prompt in asked["prompts"]],
    }
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        json.dump(found, out)
    os._exit(0)  # its threads need not be waited for


if __name__ == "__main__":
    main()
