"""Chat: the template, the conversations, teaching a model to answer, and talking to it."""

from tatar_llm.chat.speaker import ANSWER_TOKENS, Speaker
from tatar_llm.chat.template import JINJA, JINJA_PLAIN, Turn

__all__ = ["ANSWER_TOKENS", "JINJA", "JINJA_PLAIN", "Speaker", "Turn"]
