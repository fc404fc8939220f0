"""Learn the tokenizer and encode the corpus with it. The same as `tatar-llm tokenizer`."""

import sys

from tatar_llm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["tokenizer", *sys.argv[1:]]))
