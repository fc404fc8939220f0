"""``python -m tatar_llm VERB`` is ``tatar-llm VERB``."""

from tatar_llm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
