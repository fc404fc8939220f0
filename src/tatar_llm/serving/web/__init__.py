"""A page for people, made of Gradio: completion, suggestions and chat in three tabs.

`page` holds the components and what happens when they are used, `answers` what is asked of the model, `markup` the HTML that
is the page's own, `words` what it says in Tatar, Russian and English, `gate` what is kept away from Gradio; `page.js` and
`page.css` are for the browser.
"""

from tatar_llm.serving.web.page import add_page

__all__ = ["add_page"]
