"""What stands between the network and Gradio."""

from __future__ import annotations

from fastapi.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tatar_llm.console import say_seldom
from tatar_llm.serving.requests import BODY_BYTES, Refused


class Gate:
    """Lets through to Gradio what the page sends, and lets no browser ask anything of other sites for it."""

    CLOSED = ("upload", "deep_link", "proxy=", "process_recording", "stream/", "vibe-")
    """What the page has no use for: uploads, and what Gradio would store or fetch."""
    POLICY = (b"content-security-policy", b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; form-action 'self'")
    OTHERS = ("/v1", "/health")

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on."""
        if scope["type"] != "http" or scope["path"].startswith(self.OTHERS):
            await self.app(scope, receive, send)
            return
        if scope["path"].removeprefix("/gradio_api/").startswith(self.CLOSED):
            await Refused(404, "Not Found").response()(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_BYTES:
                raise HTTPException(413, f"the request is longer than {BODY_BYTES:,} bytes")
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), self.POLICY]
            await send(message)

        try:
            await self.app(scope, limited, guarded)
        except Exception as error:  # what no browser sends brings Gradio to any; it has answered 500 by then
            say_seldom(f"page: {type(error).__name__}: {error}")
