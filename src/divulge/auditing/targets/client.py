"""Asking a server over HTTP: retried, in bounds of time and size, never following it elsewhere."""

import email.utils
import http.client
import json
import os
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from divulge.errors import EndpointError

TOKEN = "DIVULGE_ENDPOINT_TOKEN"
"""Environment variable with a bearer token for the endpoint."""

LONGEST_PAUSE = 60.0
"""Seconds: a server that asks to wait longer is given up."""

LARGEST_REPLY = 64 << 20
"""Bytes of a reply that are read at most."""


def token() -> str:
    """The bearer token in the environment, empty if none.

    Raises:
        EndpointError: it holds what no header may; its text is not in the message.
    """
    value = os.environ.get(TOKEN, "").strip()
    if not (value.isascii() and value.isprintable()) and value:
        raise EndpointError(f"{TOKEN} holds characters that an HTTP header cannot carry. Set it to the bare token.")
    return value


@dataclass(frozen=True)
class Client:
    """Asks one server for JSON.

    Args:
        base: its URL without a trailing slash.
        timeout: seconds to wait for each answer.
        attempts: how often to ask before giving up.
        pause: seconds before the second attempt; it doubles with each one.
    """

    base: str
    timeout: float
    attempts: int
    pause: float

    def ready(self) -> None:
        """Wait until the server says that it is ready; one without this question counts as ready.

        Raises:
            EndpointError: it cannot be reached or stays unready.
        """
        try:
            self._ask("/v2/health/ready", None)
        except _NotFoundError:
            return

    def get(self, path: str) -> Any:
        """The JSON at `path`.

        Raises:
            EndpointError: no answer after all attempts, or one that is an error or no JSON.
        """
        return self._parsed(self._ask(path, None), path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that `path` answers to the JSON `body`; raises as `get` does."""
        return self._parsed(self._ask(path, json.dumps(body, allow_nan=False).encode()), path)

    def _ask(self, path: str, body: bytes | None) -> bytes:
        secret = token()
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body is not None else {})
        request = urllib.request.Request(self.base + path, data=body, headers=headers)
        if secret:
            request.add_unredirected_header("Authorization", f"Bearer {secret}")
        opener = urllib.request.build_opener(_StayHere())
        trouble = ""
        for attempt in range(self.attempts):
            pause = min(self.pause * 2**attempt, LONGEST_PAUSE) * random.SystemRandom().uniform(0.5, 1)
            try:
                with opener.open(request, timeout=self.timeout) as reply:
                    content = reply.read(LARGEST_REPLY + 1)
                    if reply.length and len(content) <= LARGEST_REPLY:  # a bounded read is silent about a lost end
                        raise http.client.IncompleteRead(content, reply.length)
            except urllib.error.HTTPError as error:
                trouble = self._refusal(error, path, secret)
                pause = self._asked_pause(error, trouble) or pause
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, ssl.SSLCertVerificationError):
                    raise EndpointError(f"{self.base}: its certificate cannot be trusted: {reason}") from error
                trouble = f"no answer within {self.timeout:g} s" if isinstance(reason, TimeoutError) else repr(reason)
            else:
                if len(content) > LARGEST_REPLY:
                    raise EndpointError(f"{self.base}{path}: the reply is larger than {LARGEST_REPLY >> 20} MiB.")
                return content
            if attempt + 1 < self.attempts:
                time.sleep(pause)
        raise EndpointError(
            f"{self.base}{path}: given up after {self.attempts} attempts. Last trouble: {trouble}. Check the address "
            "and that the server runs."
        )

    def _refusal(self, error: urllib.error.HTTPError, path: str, secret: str) -> str:
        """What a server that may be asked again said; any other refusal is raised."""
        try:
            with error:
                said = _message(error.read(1 << 16), secret)
        except (OSError, http.client.HTTPException):
            said = "its reason was cut off"
        told = f"HTTP {error.code}" + (f": {said}" if said else "")
        if error.code == 429 or error.code >= 500:
            return told
        where = f"{self.base}{path}"
        if 300 <= error.code < 400:
            elsewhere = _clean(str(error.headers.get("Location", "another address")), secret)
            raise EndpointError(
                f"{where} redirects to {elsewhere}, which is not followed. Give that address if you trust it."
            )
        if error.code in (401, 403):
            raise EndpointError(
                f"{where} refuses access ({told}). Set the environment variable {TOKEN} to a valid token."
            )
        raise (_NotFoundError if error.code == 404 else EndpointError)(f"{where} refuses: {told}")

    def _asked_pause(self, error: urllib.error.HTTPError, trouble: str) -> float:
        """Seconds that a busy server asks to wait (Retry-After); 0 if it does not say."""
        value = str(error.headers.get("Retry-After", ""))
        if value.isdecimal():
            seconds = float(value)
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                return 0.0
        if seconds > LONGEST_PAUSE:
            raise EndpointError(f"{self.base} asks to wait {seconds:,.0f} s ({trouble}). Try again then.")
        return max(seconds, 0.0)

    def _parsed(self, content: bytes, path: str) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise EndpointError(
                f"{self.base}{path}: expected JSON, got {_clean(content[:200].decode(errors='replace'), token())!r}. "
                "Is this an Open Inference Protocol server?"
            ) from None


class _NotFoundError(EndpointError):
    """The server has nothing at this path."""


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: records and token go to the address that was given, and nowhere else."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _message(content: bytes, secret: str) -> str:
    """What an error reply says, in one short printable line."""
    text = content.decode(errors="replace")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    return _clean(str(parsed.get("error", text)) if isinstance(parsed, dict) else text, secret)


def _clean(text: str, secret: str) -> str:
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    shown = shown.replace(secret, "***") if secret else shown
    return shown if len(shown) <= 300 else f"{shown[:297]}..."
