# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Исәнмесез! A small Tatar language model, from text to talk
#
# Run the cells from top to bottom. On a laptop without a GPU this takes about ten minutes, four of them training.
# Everything is written into the folder `notebook_workspace`; delete it to start afresh.
#
# On Colab, first write the address of the repository into the next cell. Elsewhere that cell installs nothing.

# %% tags=["quiet"]
REPOSITORY = "ADDRESS_OF_THIS_REPOSITORY"  # Colab only

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

if importlib.util.find_spec("tatar_llm") is None:
    if "google.colab" not in sys.modules:
        raise SystemExit("tatar-llm is not installed in the environment of this notebook: `pip install -e .` in its folder")
    if not Path("tatar-llm").is_dir():
        if REPOSITORY == "ADDRESS_OF_THIS_REPOSITORY":
            raise SystemExit("write the address of the repository into the first line of this cell")
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "tatar-llm"], check=True)
    Path("torch.txt").write_text(f"torch=={version('torch')}\n", encoding="utf-8")  # keeps the torch that Colab has built for its GPU
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-c", "torch.txt", "-e", "./tatar-llm[hf]"], check=True)
    sys.path.insert(0, os.path.abspath("tatar-llm/src"))  # a running Python does not see a new installation by itself

# %% [markdown]
# ## 1. The model that ships speaks
#
# Nothing has been trained yet. A small model comes with the package; the prompt is in bold.

# %%
import re

from IPython.display import Image, Markdown, display

from tatar_llm import generate_text, load_model, load_tokenizer, suggest
from tatar_llm.training import find_model, list_runs
from tatar_llm.workspace import Workspace, read_json

WORK = Workspace("notebook_workspace")


def speaker(name):
    """Network, tokenizer and its settings of the model called `name`; "" is the best one trained here."""
    place = find_model(WORK, name)
    return load_model(place.model, device="cpu")[0], *load_tokenizer(place.tokenizer)


def plain(text):
    """Text as Markdown that shows every sign as it is; / stands for the end of a line."""
    return re.sub(r"([\\`*_{}\[\]<>|$#~&])", r"\\\1", " / ".join(text.split("\n")))


shipped = speaker("shipped")
print(f"{shipped[0].config.parameters() / 1e6:.1f} million parameters, {shipped[0].config.vocab_size} tokens\n")
for seed in (1, 2, 3):
    prompt = "Бүген һава"
    text = generate_text(*shipped, prompt, max_new_tokens=40, seed=seed)
    display(Markdown(f"**{prompt}**{plain(text.removeprefix(prompt))}"))

# %% [markdown]
# Tatar words, most endings right, little sense: it has read 0.4 MB written by people and 2 MB made by a grammar. It continues
# text; it does not answer questions.
#
# ## 2. The text
#
# The built-in sample needs no network. For a better model, change `SOURCE`:
#
# - `"leipzig-mixed-2015-1m"`: a million sentences of the Leipzig Corpora Collection, 200 MB to download;
# - `"my_texts/"`: a folder of your own .txt files, or one file.

# %%
SOURCE = "sample"


def verb(*words):
    """Run a command of tatar-llm and print what it says, as `tatar-llm WORDS --workspace notebook_workspace` in a terminal."""
    command = [sys.executable, "-m", "tatar_llm", *words, "--workspace", str(WORK.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    try:
        for line in process.stderr:
            print(line, end="")
    except KeyboardInterrupt:  # the command was stopped too, and may still be writing its checkpoint
        print(process.stderr.read(), end="")
    if process.wait():
        raise SystemExit(f"tatar-llm {words[0]} did not finish: its last line above says why")


verb("prepare", "--source", SOURCE)

# %% [markdown]
# `report.md` in `notebook_workspace/data/processed` tells what each step of cleaning did. Here are its plots, and some of the
# lines held out for validation: the model never trains on those.

# %%
display(Image(WORK.processed / "report.png", width=900))
with open(WORK.val_text, encoding="utf-8") as file:
    print("".join(next(file, "") for _ in range(6)))

# %% [markdown]
# ## 3. The tokenizer
#
# A model reads tokens: pieces of words that occur often. The pieces are learnt from the text, and a small text wants few of
# them, so that each is seen often enough. Tatar puts ending after ending; watch what happens to *китап*, a book.

# %%
verb("tokenizer", "--vocab_size", "4096")

# %%
tokenizer, tok_config = load_tokenizer(WORK.tokenizer)


def cut(tokenizer, text):
    """The pieces of a text."""
    return [tokenizer.decode([token], skip_special_tokens=False) for token in tokenizer.encode(text).ids]


for word, meaning in [
    ("китап", "book"),
    ("китаплар", "books"),
    ("китапларыбыз", "our books"),
    ("китапларыбыздан", "from our books"),
    ("укытучыларыгызга", "to your teachers"),
    ("өйрәнәбез", "we learn"),
]:
    print(f"{' | '.join(cut(tokenizer, ' ' + word)).strip():30} {meaning}")

text = WORK.val_text.read_text(encoding="utf-8")
print(f"\n{len(text) / len(tokenizer.encode(text).ids):.2f} characters per token on the held-out text")
odd = "Сәлам 🙂 \t <eos> ½"
print("any text comes back unchanged:", tokenizer.decode(tokenizer.encode(odd).ids) == odd)

# %% [markdown]
# ## 4. The training
#
# The planner measures this machine for some seconds, takes the size of network that the time allows, and says what it expects.
# Four minutes are the most: where more passes over the text would teach nothing, as happens with the built-in sample on a
# fast machine, it ends sooner. After the stop button, `tatar-llm train --resume --workspace notebook_workspace` goes on.

# %%
MINUTES = os.environ.get("TATAR_LLM_NOTEBOOK_MINUTES", "4")
verb("train", "--minutes", MINUTES)

# %% [markdown]
# The loss is in **bits per byte**: how many bits the model needs for each byte of text that it has not seen. The dashed lines are
# what simple tables reach on the same text: how often each token occurs (unigram), and which token follows which (bigram).
# On the built-in sample the grey line lies low, because most of the training text is made by a grammar and easy to guess; the
# held-out text was written by people.

# %%
run = list_runs(WORK)[-1]
display(Image(run.curve))
reached, bigram = run.status()["best_bits_per_byte"], run.settings()["baselines"]["bigram"]
seen = run.status()["tokens"] / read_json(WORK.tokens_manifest)["train"]["tokens"]
print(f"{reached:.3f} bits per byte after {seen:.1f} passes over the text; the bigram has {bigram:.3f}:",
      "better than the table" if reached < bigram else "the table is still better; more minutes, or a faster machine")  # fmt: skip

# %% [markdown]
# ## 5. Four prompts
#
# Both models continue the same prompts: one text each, none selected. The prompts ask, and neither model can answer: it goes on
# in the manner of what it has read. A line end stands behind each prompt, since after a finished sentence the text may well end.

# %%
PROMPTS = [
    "Кояшлы көндә Казан урамнары турында сөйләп бир.",
    "Татар язучысы Габдулла Тукай турында нәрсә беләсең?",
    "Татарларның милли ашлары нинди?",
    "Казан турында берничә җөмлә яз.",
]
mine = speaker("")


def table(head, rows):
    """Show a table."""
    lines = [head, ["---"] * len(head), *rows]
    display(Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)))


def continued(speaker, prompt, **settings):
    """What a model adds to a prompt."""
    return plain(generate_text(*speaker, prompt, seed=1, **settings).removeprefix(prompt).strip())


table(
    ["prompt", "the shipped model", "yours"],
    [[f"**{plain(prompt)}**", *(continued(who, prompt + "\n", max_new_tokens=40) for who in (shipped, mine))] for prompt in PROMPTS],
)

# %% [markdown]
# ## 6. Temperature and top-k
#
# *Temperature* below 1 plays safe, above 1 takes risks; at 0 the likeliest token is taken every time, and top-k changes nothing.
# *Top-k* leaves only the k likeliest tokens to choose from; 0 leaves all. The same prompt and seed, the shipped model:

# %%
prompt = "Минем әни"
print(prompt, "...")
table(
    ["temperature", "top-k 5", "top-k 40", "all tokens"],
    [
        [temperature, *(continued(shipped, prompt, max_new_tokens=24, temperature=temperature, top_k=k) for k in (5, 40, 0))]
        for temperature in (0, 0.5, 0.8, 1.3)
    ],
)

# %% [markdown]
# ## 7. What comes next?
#
# A language model gives every token a probability of being the next one. Here are the likeliest twelve after *Кышын урманда*,
# "in the forest in winter"; ␣ is a space, ⏎ the end of a line.

# %%
import torch
from matplotlib import pyplot

from tatar_llm.tokenizer import encode_text


def next_tokens(speaker, prompt, count=12):
    """The likeliest next tokens and their probabilities."""
    model, tokenizer, tok_config = speaker
    ids = torch.tensor([[tok_config["bos_token_id"], *encode_text(tokenizer, prompt)]])
    with torch.inference_mode():
        logits, _ = model(ids)  # one row for each token of the prompt; the last one tells what follows
    best = logits[0, -1].softmax(dim=0).topk(count)
    names = [tokenizer.decode([token], skip_special_tokens=False) for token in best.indices.tolist()]
    return [name.replace(" ", "␣").replace("\n", "⏎") for name in names], best.values.tolist()


prompt = "Кышын урманда"
figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
for axes, who, title in zip(panels, (shipped, mine), ("the shipped model", "yours"), strict=True):
    names, probabilities = next_tokens(who, prompt)
    places = range(len(names))
    axes.barh(places, [100 * probability for probability in probabilities])
    axes.set_yticks(places, names, fontfamily="DejaVu Sans")
    axes.invert_yaxis()
    axes.set(title=title, xlabel="probability, %")
figure.suptitle(f"{prompt} ...")
pyplot.show()

# %% [markdown]
# From these probabilities come suggestions: whole words for a text that may end inside one. For a small language this may be the
# most useful thing that a small model can do.

# %%
rows = []
for typed in ("Мин мәктәпкә ба", "Бүген һава бик ", "Мин китап у"):
    for who, name in ((shipped, "shipped"), (mine, "yours")):
        rows.append([f"`{typed}`", name, ", ".join(f"{one.word} {one.probability:.0%}" for one in suggest(*who, typed, 3))])
table(["typed", "model", "suggested"], rows)

# %% [markdown]
# ## 8. How good is it?
#
# The light suite: bits per byte, grammar by pairs of a right and a wrong sentence, facts asked in other words, suggestions, and
# five samples. `notebook_workspace/reports/report.html` is the same as one page with the curves.

# %%
verb("evaluate", "--suite", "light", "--samples", "5")
display(Markdown((WORK.reports / "report.md").read_text(encoding="utf-8").replace("\n#", "\n###").replace("# ", "### ", 1)))

# %% [markdown]
# **What is honest to claim.** A number with its interval and what chance gives: where the interval holds the chance, nothing is
# shown to be learnt. Bits per byte beside the bigram of the same text, never beside a loss from other text. "Better than" between
# two models only where `tatar-llm evaluate 001 002` says so. Samples that nobody selected. Not: "it understands Tatar".
#
# The shipped model is not measured here: it was trained on the sample too and may have read what is held out here.
#
# ## 9. Take it elsewhere
#
# A folder that transformers loads without this package. The export is compared with the network before it is written; here once more.

# %%
if importlib.util.find_spec("transformers") is None:
    print('transformers is not installed, so nothing is exported: pip install "transformers>=5.0", and run this cell again')
else:
    import warnings

    verb("export", "hf")
    warnings.filterwarnings("ignore", message="IProgress not found")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = WORK.exports / "hf"
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    their_model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = "Казан урамнары"
    given = their_tokenizer(prompt, return_tensors="pt")
    made = their_model.generate(**given, max_new_tokens=30, do_sample=False, temperature=None, top_k=None)
    theirs = their_tokenizer.decode(made[0], skip_special_tokens=True)
    ours = generate_text(*mine, prompt, max_new_tokens=30, temperature=0)
    print("transformers:", theirs.replace("\n", " / "))
    print("tatar-llm:   ", ours.replace("\n", " / "))
    print("the same" if theirs == ours else "not the same: please report it")

# %% [markdown]
# ## Where to go on
#
# - More text and more minutes: `SOURCE` and `MINUTES` above, or `tatar-llm run --minutes 60` in a terminal.
# - Servers, a web page, llama.cpp, the Hugging Face Hub, an evening with one GPU: [DEPLOYMENT.md](DEPLOYMENT.md).
# - An assignment to hand in, step by step: [docs/course.md](docs/course.md).
#
# Рәхмәт!
