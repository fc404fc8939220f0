"""Train the network. The same as `tatar-llm train --recipe seed`; with --minutes, the size fits the time."""

import sys

from tatar_llm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]], default_recipe="seed"))
