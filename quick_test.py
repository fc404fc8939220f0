"""Smoke test: the best model of the workspace continues three prompts. Takes the flags of `tatar-llm generate`."""

import sys

from tatar_llm.cli import main

PROMPTS = (
    "Кояшлы көндә Казан урамнары турында сөйләп бир.",
    "Татар язучысы Габдулла Тукай турында нәрсә беләсең?",
    "Татарларның милли ашлары нинди?",
)

if __name__ == "__main__":
    for prompt in PROMPTS:
        code = main(["generate", prompt, *sys.argv[1:]])
        if code:
            raise SystemExit(code)
        print()
