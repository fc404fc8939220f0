"""The model over HTTP: OpenAI's API, word suggestions, and a page for people."""

from tatar_llm.serving.server import serve
from tatar_llm.serving.worker import Limits, Worker

__all__ = ["Limits", "Worker", "serve"]
