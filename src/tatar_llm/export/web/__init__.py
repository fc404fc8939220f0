"""A page that runs the model in the browser: from a file or a web server, without a network.

In Python: `page` writes it, `runtime` gets onnxruntime-web, `proof` compares what the page computes with the model. In
JavaScript: `tokenizer`, `network`, `generation`, `chat` and `suggest` do what their namesakes in the package do, `engine` holds
them together in a `worker`, `page` is what people see; `check` runs the engine in node.
"""

from tatar_llm.export.web.page import export_web

__all__ = ["export_web"]
