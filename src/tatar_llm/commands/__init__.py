"""What each verb does: settings in, artefacts and a few lines out."""

from tatar_llm.commands.corpora import prepare, tokenizer
from tatar_llm.commands.models import doctor, evaluate, export, publish
from tatar_llm.commands.speaking import chat, generate, serve, suggest
from tatar_llm.commands.training import finetune, run, runs, train

__all__ = ["chat", "doctor", "evaluate", "export", "finetune", "generate", "prepare", "publish", "run", "runs", "serve", "suggest", "tokenizer", "train"]
