"""A server with an OpenAI-compatible interface as an author.

Placeholders, channel, part, voice, level and a rough length by part leave this machine, and nothing else: no value of a fact, no
length of one, no customer, no name of the campaign. What comes back is data: it is judged like any other text, and where it fails
the template's stays.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from headwater.errors import HeadwaterError
from headwater_marketing.asks import PLACEHOLDER, Ask
from headwater_marketing.authors import prompt
from headwater_marketing.authors.roles import misplaced
from headwater_marketing.authors.vocabulary import WORD, Which, plain_words
from headwater_marketing.plan import Plan
from headwater_marketing.writing import Author, Draft, Line, Order

KEY = "HEADWATER_API_KEY"
HERE = ("localhost", "127.0.0.1", "::1")
ANSWER = 1 << 20  # bytes of an answer that are read
LONGEST = 2000  # characters of a text
PATIENCE = 120.0  # seconds that a server may ask us to wait
FAILURES = 4  # in a row, each after all its tries, before a server counts as gone
#: Words that are asked for, by part, and the tokens granted for a text: neither depends on a customer's facts.
WORDS = {"text": 20, "title": 5, "body": 15, "subject": 6, "preheader": 8, "headline": 4, "description": 10}
LONG = {("email", "body"): 45, ("description", "text"): 30}
GRANTED = 400


@dataclass(frozen=True)
class Answer:
    """A text, or why there is none; ``again`` where another try may help, after ``wait`` seconds if the server said so."""

    text: str = ""
    why: str = ""
    again: bool = False
    wait: float | None = None


class Endpoint:
    """``url`` is the address up to ``/v1``; the key is read from the environment variable ``key`` alone, and only then.

    ``per_minute`` requests, ``at_once`` of them open, each up to ``timeout`` seconds and ``tries`` times. ``prices`` are those of a
    million tokens in and out; with a ``budget`` in the same money no request is made that could exceed it, at its worst. Limits and
    budget are this process's. With ``words`` "plain", texts with other words than ours are drawn again. ``extra`` goes into every
    request. Raises :class:`HeadwaterError` for an address or a setting that cannot be."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        timeout: float = 60.0,
        tries: int = 4,
        per_minute: float | None = None,
        at_once: int = 4,
        prices: tuple[float, float] | None = None,
        budget: float | None = None,
        words: Which = "any",
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.url, host = _address(url)
        if not model:
            raise HeadwaterError(f"--author: {url}: expected a model's name behind #, as in {url}#NAME")
        if budget is not None and prices is None:
            raise HeadwaterError("--author: budget: expected prices = [in, out] of a million tokens beside it")
        if key is not None and not os.environ.get(key):
            raise HeadwaterError(f"--author: key: the environment variable {key} is not set")
        self.key = key or (KEY if os.environ.get(KEY) else None)
        if self.key and self.url.startswith("http:") and host not in HERE:
            raise HeadwaterError(f"--author: {url}: a key is sent over https only (or to this machine); got http")
        self.model, self.name = model, f"{host}#{model}"
        self.timeout, self.tries, self.at_once, self.words, self.extra = timeout, tries, at_once, words, dict(extra)
        self.pace, self.till = Pace(per_minute), Till(prices, budget)
        self.opener = urllib.request.build_opener(_NoRedirect)
        self.limit, self.bold = "max_tokens", True  # what some servers name otherwise, or do not know
        self.failed, self.answered, self.closed, self.lock = 0, False, "", threading.Lock()

    def author(self, seed: int, boldness: float) -> EndpointAuthor:
        return EndpointAuthor(self, boldness)

    def ask(self, messages: Sequence[Mapping[str, str]], boldness: float) -> Answer:
        """One text. Raises :class:`HeadwaterError` where no request can succeed: a wrong key, model or address."""
        answer = Answer()
        for turn in range(self.tries):
            if self.closed:
                return Answer(why=self.closed)
            body = self._body(messages, boldness)
            cost = self.till.reserve(len(body))
            if cost is None:
                self._close(f"the budget of {self.till.budget:g} does not allow another request ({self.till.spent:.4g} spent)")
                return Answer(why=self.closed)
            self.pace.wait()
            answer = self._once(body, cost)
            if not answer.again:
                break
            if turn + 1 < self.tries:
                self.pace.hold(answer.wait if answer.wait is not None else min(2.0**turn, 30.0))
        with self.lock:
            self.failed = 0 if answer.text else self.failed + answer.again
            self.answered = self.answered or bool(answer.text)
            gone = self.failed >= FAILURES
        if gone and not self.answered:
            raise HeadwaterError(f"--author: {self.name}: {answer.why}, {self.failed} times")
        if gone:
            self._close(f"the server no longer answers ({answer.why})")
        return answer

    def _close(self, why: str) -> None:
        """Ask no more: said once, the rest is the templates'."""
        with self.lock:
            if not self.closed:
                self.closed = why
                print(f"{self.name}: {why}; templates write the rest", file=sys.stderr)

    def _body(self, messages: Sequence[Mapping[str, str]], boldness: float) -> bytes:
        told: dict[str, Any] = {"model": self.model, "messages": list(messages), self.limit: GRANTED}
        if self.bold:
            told["temperature"] = boldness
        return json.dumps({**told, **self.extra}).encode()

    def _once(self, body: bytes, cost: float) -> Answer:
        head = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "headwater"}
        if self.key:
            head["Authorization"] = f"Bearer {os.environ.get(self.key, '')}"
        request = urllib.request.Request(f"{self.url}/chat/completions", data=body, headers=head, method="POST")
        paid = cost  # at the worst: it may have been read and charged
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                found, used = _text(_read(response, time.monotonic() + self.timeout))
            paid = cost if used is None else self.till.price(*used)
            return found
        except urllib.error.HTTPError as error:
            paid = 0.0
            with error:
                return self._refused(error, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ConnectionRefusedError | socket.gaierror):
                paid = 0.0
            slow = isinstance(reason, TimeoutError)
            return Answer(why=f"no answer {f'within {self.timeout:g} s' if slow else f'({type(reason).__name__})'}", again=True)
        finally:
            self.till.settle(cost, paid)

    def _refused(self, error: urllib.error.HTTPError, body: bytes) -> Answer:
        """What the status that a request (``body``) got means; others may be under way. Raises :class:`HeadwaterError` where trying
        again is no use."""
        why = f"the server answered {error.code}"
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            wait = _seconds(error.headers.get("Retry-After"))
            if wait is not None and wait > PATIENCE:
                self._close(f"{why} and asks to wait {wait:.0f} s")
                return Answer(why=self.closed)
            return Answer(why=why, again=True, wait=wait)
        said = self._plain(error)
        asked = json.loads(body)
        if error.code == 400 and "max_tokens" in asked and "max_tokens" in said and "max_completion_tokens" in said:
            self.limit = "max_completion_tokens"
            return Answer(why=why, again=True, wait=0.0)
        if error.code == 400 and "temperature" in asked and "temperature" in said:
            self.bold = False
            return Answer(why=why, again=True, wait=0.0)
        hint = f"; the key is read from ${self.key or KEY}" if error.code in (401, 403) else ""
        raise HeadwaterError(f"--author: {self.name}: {why}{f' ({said})' if said else ''}{hint}")

    def _plain(self, error: urllib.error.HTTPError) -> str:
        """A server's own words in one line, without the key should it repeat it."""
        try:
            told = _read(error, time.monotonic() + 5.0).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""
        key = os.environ.get(self.key or "", "")
        told = told.replace(key, "[key]") if key else told
        return " ".join("".join(c if c.isprintable() else " " for c in told).split())[:300]


class EndpointAuthor(Author):
    """Lines by a server. What it says does not follow from a seed: two runs differ."""

    def __init__(self, source: Endpoint, boldness: float) -> None:
        self.source, self.name, self.boldness = source, source.name, boldness
        self.why: list[str | None] = []

    def rule(self, ask: Ask, plan: Plan, order: Order, like: str) -> None:
        return None

    def write(self, lines: Sequence[tuple[Draft, Line]], attempt: int) -> list[str]:
        """Another attempt asks for fewer words."""
        told = [prompt.messages(line.ask, round(words_for(line.ask) * 0.75**attempt)) for _, line in lines]
        with ThreadPoolExecutor(self.source.at_once) as pool:
            answers = list(pool.map(lambda messages: self.source.ask(messages, self.boldness), told))
        self.why = [answer.why or _odd(answer.text, self.source.words) for answer in answers]
        return [answer.text for answer in answers]

    def doubts(self, lines: Sequence[tuple[Draft, Line]], texts: Sequence[str]) -> list[str | None]:
        return self.why


def words_for(ask: Ask) -> int:
    return LONG.get((str(ask.channel), str(ask.part)), WORDS.get(str(ask.part), 20))


def _odd(text: str, words: Which) -> str | None:
    """A capital inside a sentence begins a name, and names are facts; "plain" allows the words that claim nothing; and no fact
    stands where it misleads."""
    found = re.search(r"(?<![.!?:\n])(?<![.!?:][\"”’ ]) +(?!I\b)[A-ZÀ-Þ][\w’']*", text)
    if found:
        return f"a name that is no fact: {found.group().strip()!r}"
    said = WORD.findall(PLACEHOLDER.sub(" ", text)) if words == "plain" else []
    odd = next((word for word in said if word.lower() not in _plain()), None)
    return f"a word that is not ours: {odd!r}" if odd else misplaced(text)


@functools.cache
def _plain() -> frozenset[str]:
    return frozenset(word.lower() for word in plain_words())


class Pace:
    """So many requests a minute, evenly; and none before a server wants one again."""

    def __init__(self, per_minute: float | None) -> None:
        self.apart, self.free, self.lock = 60.0 / per_minute if per_minute else 0.0, 0.0, threading.Lock()

    def wait(self) -> None:
        while True:
            with self.lock:
                now = time.monotonic()
                if now >= self.free:
                    self.free = now + self.apart
                    return
                left = self.free - now
            time.sleep(left)

    def hold(self, seconds: float) -> None:
        with self.lock:
            self.free = max(self.free, time.monotonic() + seconds)


class Till:
    """What has been spent, and what the open requests could cost at their worst."""

    def __init__(self, prices: tuple[float, float] | None, budget: float | None) -> None:
        self.prices, self.budget, self.spent, self.open = prices or (0.0, 0.0), budget, 0.0, 0.0
        self.waited_for, self.settled = 0, threading.Condition()

    def price(self, read: int, written: int) -> float:
        return (read * self.prices[0] + written * self.prices[1]) / 1e6

    def reserve(self, size: int) -> float | None:
        """Put aside what a request of ``size`` bytes costs at most: a token has at least one byte. Waits for open requests where
        they may leave enough; None where it is not there."""
        most = self.price(size, GRANTED)
        with self.settled:
            while self.budget is not None and self.spent + self.open + most > self.budget:
                if self.spent + most > self.budget or not self.waited_for:
                    return None
                self.settled.wait()
            self.open, self.waited_for = self.open + most, self.waited_for + 1
        return most

    def settle(self, reserved: float, cost: float) -> None:
        with self.settled:
            self.open, self.spent, self.waited_for = self.open - reserved, self.spent + cost, self.waited_for - 1
            self.settled.notify_all()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address that it was given for, and to no other."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def _address(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HeadwaterError(f"--author: expected an address like https://host/v1; got {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise HeadwaterError(f"--author: the address takes no user, password or question mark; a key comes from ${KEY}")
    return urllib.parse.urlunsplit(parts), parts.hostname


def _read(response: Any, until: float) -> bytes:
    """A body of at most :data:`ANSWER` bytes that is there in time, however slowly it drips."""
    found = b""
    while piece := response.read1(1 << 16):
        found += piece
        if len(found) > ANSWER:
            raise ValueError("too long")
        if time.monotonic() > until:
            raise TimeoutError
    return found


def _text(body: bytes) -> tuple[Answer, tuple[int, int] | None]:
    """The text of an answer, and the tokens that it says it took."""
    try:
        told = json.loads(body)
        text = told["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return Answer(why="an answer that is none", again=True), None
    used = told.get("usage") if isinstance(told.get("usage"), dict) else {}
    counts = [n for n in map(used.get, ("prompt_tokens", "completion_tokens")) if type(n) is int and 0 <= n < 10**9]
    tokens = (counts[0], counts[1]) if len(counts) == 2 else None
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        return Answer(why="no text in the answer"), tokens
    text = text.strip()
    if len(text) > 1 and text[0] + text[-1] in ('""', "“”", "''"):
        text = text[1:-1].strip()
    return Answer(prompt.back(text)), tokens


def _seconds(value: str | None) -> float | None:
    """``Retry-After``: seconds, or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
