"""Get Tatar text, clean it and split it: data/processed/train.txt and val.txt. The same as `tatar-llm prepare`."""

import sys

from tatar_llm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["prepare", *sys.argv[1:]]))
