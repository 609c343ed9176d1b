"""An OpenAI-compatible server as a model: one connection a thread, back-off on 429 and 5xx, nothing but the
given address.

What is sent is the prompt, the images as base64 and the values of generation. No proxy is used, no address but `url`.
"""

import base64
import http.client
import io
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit

from medpipe.language.model import Asked, ModelGone, Reply, VisionLanguageModel
from medpipe.language.options import GenerationConfig, ServerModel

if TYPE_CHECKING:
    from PIL.Image import Image

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# Wrong for every question alike: address, key, name of the model.
HOPELESS = {401, 403, 404}
LONGEST_WAIT_SECONDS = 60.0


@final
class Server(VisionLanguageModel):
    """A client for `POST <url>/chat/completions`."""

    def __init__(
        self,
        config: ServerModel,
        generation: GenerationConfig,
        system: str = "",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.generation, self.system, self.should_stop = config, generation, system, should_stop
        self.concurrency = config.concurrency
        self.address = urlsplit(config.url)
        self.key = os.environ.get(config.api_key_env, "")
        self.local = threading.local()
        self.lock = threading.Lock()
        self.answered_at = time.monotonic()

    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        return [self._answer(one) for one in asked]

    def _answer(self, asked: Asked) -> Reply:
        """Ask until there is an answer, the attempts are used up, or the server has been gone for too long."""
        body = json.dumps(self.request(asked)).encode()
        reason = ""
        for attempt in range(1, self.config.max_attempts + 1):
            if attempt > 1:
                self._wait(attempt, asked.question_id, reason)
            try:
                status, headers, text = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
                self._drop_connection()
                self._give_up_if_gone(reason)
                continue
            self._heard()
            if status in HOPELESS:
                raise ModelGone(f"{self.config.url}: HTTP {status} {excerpt(text)}; check url, model and key")
            if status in RETRIED:
                reason = f"HTTP {status} {excerpt(text)}" + _retry_after(headers)
                continue
            if status >= 400:
                return Reply(None, error=f"HTTP {status} {excerpt(text)}", attempts=attempt)
            reply = read_completion(text)
            if reply.text is not None or reply.finish_reason == "content_filter":
                return Reply(reply.text or "", reply.finish_reason, attempts=attempt, reasoning=reply.reasoning)
            reason = reply.error
        return Reply(None, error=f"{reason} ({self.config.max_attempts} attempts)", attempts=self.config.max_attempts)

    def request(self, asked: Asked) -> dict[str, Any]:
        """The body of one request, made of the prompt, the images and the values of generation; nothing else."""
        pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in asked.images]
        text = [{"type": "text", "text": asked.prompt}]
        content = pictures + text if self.config.image_first else text + pictures
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": content})
        generation = self.generation
        return {
            "model": self.config.model,
            "messages": messages,
            "max_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "seed": generation.seed,
            **({"stop": list(generation.stop)} if generation.stop else {}),
            **self.config.extra,
        }

    def _post(self, body: bytes) -> tuple[int, Any, bytes]:
        connection = getattr(self.local, "connection", None) or self._connect()
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection.request("POST", f"{self.address.path.rstrip('/')}/chat/completions", body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    def _connect(self) -> http.client.HTTPConnection:
        host, port, timeout = self.address.hostname or "", self.address.port, self.config.timeout_seconds
        if self.address.scheme == "https":
            self.local.connection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            self.local.connection = http.client.HTTPConnection(host, port, timeout=timeout)
        return self.local.connection

    def _drop_connection(self) -> None:
        connection = getattr(self.local, "connection", None)
        if connection is not None:
            connection.close()
            self.local.connection = None

    def _heard(self) -> None:
        with self.lock:
            self.answered_at = time.monotonic()

    def _give_up_if_gone(self, reason: str) -> None:
        with self.lock:
            silent = time.monotonic() - self.answered_at
        if silent > self.config.give_up_seconds:
            raise ModelGone(f"{self.config.url}: no answer for {silent:.0f} s ({reason})")

    def _wait(self, attempt: int, question_id: str, reason: str) -> None:
        """Double the wait each time, spread so that threads do not come back together; longer where the server
        says so."""
        wait = self.config.first_wait_seconds * 2 ** (attempt - 2)
        wait = min(wait * random.Random(f"{question_id} {attempt}").uniform(0.75, 1.25), LONGEST_WAIT_SECONDS)
        if "retry after " in reason:
            wait = max(wait, min(float(reason.rsplit("retry after ", 1)[1]), LONGEST_WAIT_SECONDS))
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0 and not self.should_stop():
            time.sleep(min(left, 0.2))

    def close(self) -> None:
        self._drop_connection()


def read_completion(text: bytes) -> Reply:
    """The text of a completion; a broken or empty one has an error instead."""
    try:
        found = json.loads(text)
        choice = found["choices"][0]
        message = choice.get("message") or {}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return Reply(None, error=f"no choice in the answer ({type(error).__name__}): {excerpt(text)}")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    reason = choice.get("finish_reason")
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(content, str):
        if reason == "length":  # all tokens went into thoughts
            return Reply("", "length", reasoning=str(thoughts))
        return Reply(None, reason, error=f"no text in the answer, finish_reason {reason!r}")
    return Reply(content, reason, reasoning=str(thoughts))


def data_url(image: "Image") -> str:
    """The image as PNG within a URL: no second loss on top of the file's own."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def excerpt(text: bytes) -> str:
    """The start of an answer, for a message."""
    return " ".join(text[:200].decode("utf-8", "replace").split())


def _retry_after(headers: Any) -> str:
    value = headers.get("Retry-After", "")
    return f"; retry after {value}" if value.replace(".", "", 1).isdigit() else ""
