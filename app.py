"""The page for people, as `tatar-llm serve --web` on port 7860. Takes its flags; runs as it stands on Hugging Face Spaces."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # a Space installs libraries, not this package

from tatar_llm.cli import main

EVERYONE = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
HOST = os.environ.get("GRADIO_SERVER_NAME", EVERYONE)
PORT = os.environ.get("GRADIO_SERVER_PORT", "7860")

if __name__ == "__main__":
    raise SystemExit(main(["serve", "--web", "--host", HOST, "--port", PORT, *sys.argv[1:]]))
