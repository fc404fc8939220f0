"""`tatar-llm serve` against `transformers serve` on the same exported folder: tokens a second and time to the first token.

    python benchmarks/serve.py [--workspace DIR] [--model NNN] [--clients 1 8] [--requests 4] [--tokens 64]

Needs `pip install "tatar-llm[serve,hf]" "transformers[serving]" openai`. Each server runs alone, with the same threads; the clients
stream /v1/completions with the official openai client, all at once, `requests` texts each, one after the other. Tokens are
counted by encoding the text that came. Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], port: int):
    """A server process, once it answers at /health."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(40)


def ask(port: int, model: str, prompt: str, tokens: int, seed: int) -> tuple[float, str]:
    """Seconds to the first text, and the text."""
    import openai

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)
    began, first, text = time.perf_counter(), 0.0, ""
    for event in client.completions.create(model=model, prompt=prompt, max_tokens=tokens, temperature=0.8, seed=seed, stream=True):
        if event.choices and event.choices[0].text:
            first = first or time.perf_counter() - began
            text += event.choices[0].text
    return first, text


def measure(port: int, model: str, prompts: list[str], clients: int, requests: int, tokens: int, count) -> tuple[float, list[float]]:
    """Tokens a second of all clients together, and the seconds to each first token."""
    firsts: list[float] = []
    made: list[int] = []

    def client(number: int) -> None:
        for request in range(requests):
            first, text = ask(port, model, prompts[(number + request) % len(prompts)], tokens, seed=number * 100 + request)
            firsts.append(first)
            made.append(count(text))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.perf_counter() - began), firsts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--model", default="")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()

    from tatar_llm.export import export_hf
    from tatar_llm.languages import load_language
    from tatar_llm.tokenizer import encode_text, load_tokenizer
    from tatar_llm.training import find_model
    from tatar_llm.workspace import Workspace

    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    tokenizer, _ = load_tokenizer(place.tokenizer)
    prompts = list(load_language("tat").prompts)
    with tempfile.TemporaryDirectory() as folder:
        exported = str(export_hf(workspace, place, str(Path(folder) / "hf")))
        program = str(Path(sys.executable).with_name("transformers"))
        rows = []
        for name in ("transformers serve", "tatar-llm serve"):
            port = free_port()
            if name.startswith("tatar"):
                command = [sys.executable, "-m", "tatar_llm", "serve", "--workspace", folder, "--model", exported, "--port", str(port)]
                model = ""
            else:
                command, model = [program, "serve", exported, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"], exported
            with server(command, port):
                ask(port, model, prompts[0], 8, 0)  # warm
                for clients in args.clients:
                    speed, firsts = measure(port, model, prompts, clients, args.requests, args.tokens, lambda text: len(encode_text(tokenizer, text)))
                    rows.append((clients, name, speed, statistics.median(firsts), max(firsts)))
    print(f"{place.name}, {args.requests} texts of at most {args.tokens} tokens a client\n")
    print("| clients | server | tokens/s | | first token, median | slowest |\n|---:|---|---:|---:|---:|---:|")
    for clients in args.clients:
        mine = [row for row in rows if row[0] == clients]
        for _, name, speed, middle, slowest in mine:
            print(f"| {clients} | {name} | {speed:,.0f} | {speed / mine[0][2]:.1f}x | {middle * 1000:,.0f} ms | {slowest * 1000:,.0f} ms |")


if __name__ == "__main__":
    main()
