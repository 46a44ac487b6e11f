"""A chat model behind an OpenAI-compatible address: deadlines, retries, a log, and what it costs.

Every attempt runs in a thread beside the caller. Name lookup, handshake, headers and body then
share one limit, at which the caller goes on and the connection is cut. A limit for each read, as
HTTP libraries have it, never ends a call to a server that sends a byte now and then.

What this leaves out: streaming, connections that are kept open, batch interfaces, SOCKS proxies.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import http.client
import ipaddress
import json
import math
import os
import queue
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postlab import storage
from postlab.redaction import REDACTED, redact

MOST_BYTES = 1_000_000  # of a reply: a verdict is a letter
PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0  # before the second attempt, doubled for each one after
LEAST_S = 0.1  # what has to be left for another attempt
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)


class JudgeError(RuntimeError):
    """An endpoint gave no verdict; the message says why and never holds a key or a prompt."""


@dataclass(frozen=True)
class Spent:
    """What an endpoint's answers have cost: those of earlier runs in the log are not counted.

    Args:
        answers: that arrived; an attempt that failed may have been charged for as well.
        logged: answers taken from the log or asked for twice, at no cost.
        tokens_in: of the questions, as the server counts.
        tokens_out: of the answers.
        untold: answers with which the server told no tokens.
        usd_per_million: prices of a million tokens (in, out), None if unknown.
    """

    answers: int = 0
    logged: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    untold: int = 0
    usd_per_million: tuple[float, float] | None = None

    @property
    def usd(self) -> float | None:
        """Dollars; None if prices or tokens are unknown.

        >>> Spent(answers=2, tokens_in=1_000_000, tokens_out=10, usd_per_million=(0.5, 2)).usd
        0.50002
        """
        if self.usd_per_million is None or self.untold:
            return None
        price_in, price_out = self.usd_per_million
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6

    def __str__(self) -> str:
        tokens = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if self.untold:
            tokens = f"tokens unknown for {self.untold} of {self.answers} answers"
        cost = "cost unknown" if self.usd is None else f"${self.usd:.4f}"
        return f"{tokens}, {cost}" + f", {self.logged} from the log" * bool(self.logged)


@dataclass(frozen=True)
class _Failure:
    """Why an attempt gave no reply, whether another may, and after how many seconds."""

    why: str
    again: bool = False
    after: float = 0.0


@dataclass
class _Attempt:
    """What the caller and the thread of one attempt share."""

    ends: float
    sockets: list[socket.socket] = field(default_factory=list)
    outcome: queue.SimpleQueue[dict[str, Any] | _Failure] = field(default_factory=queue.SimpleQueue)

    def watch(self, sock: socket.socket) -> None:
        """Let `cut` reach the connection, whatever wraps it later."""
        self.sockets.append(sock.dup())
        if time.monotonic() >= self.ends:  # nobody waits any more, so nothing is sent
            raise TimeoutError

    def cut(self) -> None:
        for sock in self.sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class _Threads:
    """Daemon threads that run jobs: starting one takes longer than the rest of an attempt."""

    no_settings = ("idle",)  # of a reward that asks an endpoint, for the key of its run

    def __init__(self) -> None:
        self.idle: list[queue.SimpleQueue[Callable[[], None]]] = []  # jobs for a waiting thread

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which raises nothing, in a thread that waits for another one afterwards."""
        try:
            jobs = self.idle.pop()
        except IndexError:
            jobs = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(jobs,), name=_NAME, daemon=True).start()
        jobs.put(job)

    def _serve(self, jobs: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            jobs.get()()
            self.idle.append(jobs)


_NAME = "postlab-endpoint"
_threads = _Threads()
if hasattr(os, "register_at_fork"):  # a forked child has none of these threads
    os.register_at_fork(after_in_child=_threads.idle.clear)


class _NotHere(Exception):
    """Plain http has reached another machine than it may."""


class _OtherProxy(Exception):
    """A proxy that isn't spoken to by plain http."""


class _Connection(http.client.HTTPConnection):
    """To a host, or through a proxy to a host; every socket is watched, and http's is checked."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        super().__init__(host, port, timeout=seconds)
        self.attempt: _Attempt | None = None
        self.tls: tuple[ssl.SSLContext, str] | None = None
        self.private = False

    def connect(self) -> None:
        super().connect()
        if self.attempt:
            self.attempt.watch(self.sock)
        if self.tls:
            context, host = self.tls
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        elif not _reaches_only_us(self.sock.getpeername()[0], private=self.private):
            raise _NotHere


class Endpoint:
    """A function from messages to the text of the reply; see `endpoint_chat`, which makes it."""

    # A reward that asks an endpoint is the same reward after a thousand answers.
    no_settings = ("_log", "_known", "_turns", "_reached", "_spent", "_context")

    def __init__(
        self,
        url: str,
        *,
        model: str,
        max_tokens: int,
        key_variable: str | None = "OPENAI_API_KEY",
        timeout: float = 60.0,
        deadline: float = 180.0,
        retries: int = 5,
        log: str | Path | None = None,
        usd_per_million: tuple[float, float] | None = None,
        allow_http: bool = False,
    ) -> None:
        parts = _checked_url(url, allow_http=allow_http)
        if not (timeout > 0 and deadline > 0 and retries >= 0):
            raise ValueError(
                f"{timeout=}, {deadline=}, {retries=}; expected seconds over 0, and 0 or more tries"
            )
        if usd_per_million is not None and not (
            len(usd_per_million) == 2 and all(0 <= price < math.inf for price in usd_per_million)
        ):
            raise ValueError(
                f"usd_per_million is {usd_per_million}; expected dollars for a million tokens of"
                " questions and of answers, such as (0.15, 0.60)"
            )
        self._host, self._tls = str(parts.hostname), parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self._netloc, self._private = parts.netloc, allow_http
        self.shown = redact(f"{parts.scheme}://{parts.netloc}{self._path}")
        self._payload = {"model": model, "temperature": 0, "max_tokens": max_tokens}
        self._key_variable, self._retries = key_variable, retries
        self._timeout, self._deadline = timeout, deadline
        self._log = Path(log) if log is not None else None
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._known = _read_log(self._log) if self._log else {}
        self._reached = False
        self._spent = Spent(usd_per_million=usd_per_million)

    def __repr__(self) -> str:
        return f"<endpoint {self._payload['model']} at {self.shown}>"

    @property
    def model(self) -> str:
        """The name by which the server knows the model."""
        return str(self._payload["model"])

    @property
    def spent(self) -> Spent:
        """What this endpoint has cost so far."""
        return self._spent

    def __call__(self, messages: list[dict[str, str]]) -> str:
        body = json.dumps(self._payload | {"messages": messages}).encode()
        question = hashlib.sha256(f"{self._host}:{self._port}{self._path}\n".encode() + body)
        name = question.hexdigest()
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:  # the same question from two threads is paid for once
            if name in self._known:
                self._count(logged=1)
                return self._known[name]
            reply = self._ask(body)
            if isinstance(reply, _Failure):
                place = f" in {self._log.name}" if self._log else ""
                kept = f"; {len(self._known)} answers are kept{place}" * bool(self._known)
                # Raised out here: no frame or cause of it holds the key, or what came back.
                raise JudgeError(f"{self.shown}: {reply.why}{kept}")
            self._keep(name, reply)
            return reply["text"]

    def _keep(self, name: str, reply: dict[str, Any]) -> None:
        usage = {n: reply[n] for n in ("tokens_in", "tokens_out")}
        with self._lock:
            self._known[name] = reply["text"]
            if self._log:
                record = {"question": name, "model": self._payload["model"]}
                storage.append_json(self._log, record | {"reply": reply["text"]} | usage)
        told = None not in usage.values()
        self._count(answers=1, untold=int(not told), **(usage if told else {}))

    def _count(self, **more: int) -> None:
        with self._lock:
            counts = {n: getattr(self._spent, n) + number for n, number in more.items()}
            self._spent = Spent(**vars(self._spent) | counts)

    def _ask(self, body: bytes) -> dict[str, Any] | _Failure:
        """Ask until there is a reply, no use in another attempt, or no time for one."""
        begun = time.monotonic()
        ends, tries = begun + self._deadline, 0
        while True:
            outcome = self._try(body, min(self._timeout, ends - time.monotonic()))
            tries += 1
            if not isinstance(outcome, _Failure):
                self._reached = True
                return outcome
            why, left = outcome.why, ends - time.monotonic()
            if outcome.again and outcome.after >= max(left, 1):
                why += (
                    f" (it asks to wait {outcome.after:,.0f} s, and {max(left, 0):.0f} s are left)"
                )
            if not outcome.again or tries > self._retries or left - outcome.after < LEAST_S:
                break
            # At random, so that several don't come back at once; and half of what is left is kept.
            backoff = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (tries - 1), (left - outcome.after) / 2)
            luck = random.SystemRandom()  # the learner's seed is left alone
            time.sleep(outcome.after + luck.uniform(0, backoff))
        again = f" ({tries} attempts in {time.monotonic() - begun:.0f} s)" if tries > 1 else ""
        return _Failure(why + again)

    def _try(self, body: bytes, seconds: float) -> dict[str, Any] | _Failure:
        """One attempt: what `_exchange` returns, or a failure when the seconds are over."""
        key = os.environ.get(self._key_variable, "").strip() if self._key_variable else ""
        if key and not re.fullmatch(r"[\x21-\x7e]+", key):
            return _Failure(
                f"the key in {self._key_variable} holds a space or a character no header may hold"
            )
        attempt = _Attempt(time.monotonic() + seconds)

        def work() -> None:
            try:
                attempt.outcome.put(self._exchange(attempt, body, key, seconds))
            except Exception as error:  # its text could quote a header, so none is passed on
                attempt.outcome.put(self._broken(error, seconds))

        _threads.run(work)
        try:
            return attempt.outcome.get(timeout=max(seconds, 0))
        except queue.Empty:
            return self._broken(TimeoutError(), seconds)
        finally:
            attempt.cut()

    def _broken(self, error: Exception, seconds: float) -> _Failure:
        """What an exception of socket, ssl or http.client means, without a word of its text."""
        kind = type(error).__name__
        if isinstance(error, _NotHere):
            return _Failure(
                "this http address belongs to another machine, so nothing was sent; use https"
                + ", for allow_http=True holds for private networks only" * self._private
            )
        if isinstance(error, _OtherProxy):
            return _Failure(
                "https_proxy is no http://host:port, the only kind of proxy used here; change it,"
                " or put the host into no_proxy"
            )
        if isinstance(error, TimeoutError):
            limit = "timeout" if seconds >= self._timeout else "deadline"
            return _Failure(
                f"no whole reply within {limit}={getattr(self, f'_{limit}'):g} s; is the model"
                f" loaded? Else raise {limit}",
                again=True,
            )
        if isinstance(error, ssl.SSLError):
            return _Failure(
                f"no secure connection ({kind}); does the server speak https there, with a"
                " certificate that this machine trusts?",
                self._reached,
            )
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return _Failure(f"the server closed the connection ({kind})", again=True)
        if isinstance(error, OSError):  # before anything has ever come back, the address is wrong
            return _Failure(
                f"no connection ({kind}); is the server running there, and https_proxy right if"
                " that is set?",
                self._reached,
            )
        return _Failure(f"a broken reply ({kind}); is this an HTTP server?", again=True)

    def _exchange(
        self, attempt: _Attempt, body: bytes, key: str, seconds: float
    ) -> dict[str, Any] | _Failure:
        """Send the question, and read the reply."""
        headers = {"Content-Type": "application/json", "Host": self._netloc, "Connection": "close"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        connection = self._connection(seconds)
        connection.attempt = attempt
        try:
            connection.request("POST", self._path, body, headers)
            reply = connection.getresponse()
            raw = reply.read(MOST_BYTES + 1)
        finally:
            connection.close()
        announced = reply.headers.get("Content-Length", "")
        if announced.isdecimal() and len(raw) < min(int(announced[:18]), MOST_BYTES):
            return _Failure("a reply that was cut short", again=True)
        if reply.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip", "deflate"):
            raw = zlib.decompressobj(47).decompress(raw, MOST_BYTES + 1)  # not more, of a bomb
        if reply.status != 200:
            return self._refusal(reply.status, raw, reply.headers.get("Retry-After", ""))
        if len(raw) > MOST_BYTES:
            return _Failure("a reply over 1 MB, expected a letter or a few lines")
        return _parsed(raw, key)

    def _connection(self, seconds: float) -> _Connection:
        proxy = self._proxy()
        if proxy is None:
            connection = _Connection(self._host, self._port, seconds)
        else:
            connection = _Connection(str(proxy.hostname), proxy.port or 80, seconds)
            user = urllib.parse.unquote(proxy.username or "")
            login = f"{user}:{urllib.parse.unquote(proxy.password or '')}".encode()
            basic = {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}
            connection.set_tunnel(self._host, self._port, basic if user else {})
        if self._tls:
            with self._lock:  # reading the certificates takes longer than the rest of a question
                self._context = self._context or ssl.create_default_context()
            connection.tls = (self._context, self._host)
        connection.private = self._private
        return connection

    def _proxy(self) -> urllib.parse.SplitResult | None:
        """The proxy for https to another machine; http would show it the key and the prompts."""
        if not self._tls or is_local(self._host) or urllib.request.proxy_bypass(self._host):
            return None
        proxies = urllib.request.getproxies()
        url = proxies.get("https") or proxies.get("all")
        if not url:
            return None
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise _OtherProxy
        return parts

    def _refusal(self, code: int, raw: bytes, retry_after: str) -> _Failure:
        empty = code == 429 and b"insufficient_quota" in raw
        again = code in _AGAIN and not empty
        after = retry_after_s(retry_after) if again else 0.0
        return _Failure(f"HTTP {code}; {self._advice(code, empty)}", again, after)

    def _advice(self, code: int, empty: bool) -> str:
        if code in (401, 403):
            return f"the server refuses the key; is the right one in {self._key_variable}?"
        if 300 <= code < 400:
            return "a redirect, which is not followed: give the final address"
        if code == 404:
            return "no such address or model; the url ends in /v1 at most servers"
        if code == 429:
            return "no credit is left" if empty else "too many questions; wait, then ask again"
        return "look into the server's own log" if code >= 500 else "the server refused it"


def is_local(host: str) -> bool:
    """Whether a host of a URL is this machine, by its name or address, without a lookup.

    >>> [is_local(h) for h in ("localhost", "127.1", "::1", "api.openai.com", "127.0.0.1.nip.io")]
    [True, True, True, False, False]
    """
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    address = _address(host)
    return address is not None and (address.is_unspecified or _is_own(address))


def retry_after_s(text: str) -> float:
    """Seconds that a Retry-After header asks to wait, in either of its two forms; 0 if neither.

    >>> retry_after_s("120"), retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after_s("soon")
    (120.0, 0.0, 0.0)
    """
    text = text.strip()[:64]
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text):
        return float(text)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def _checked_url(url: str, *, allow_http: bool) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or a bracket alone
        host = None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("the url of a judge starts with https:// or http:// and names a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "the url of a judge holds a user name, a password or a query; put the key into an"
            " environment variable and pass its name as key_variable"
        )
    if parts.scheme == "http" and not allow_http and not is_local(host):
        raise ValueError(
            f"http://{host} is another machine, and http would show it the key and the prompts"
            " unencrypted; use https, an SSH tunnel to localhost, or allow_http=True for a machine"
            " in your own private network"
        )
    return parts


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host stands for, in any form that the system reads; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:  # 127.1, 0x7f000001, 2130706433
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether this machine has this address: the way to it then starts where it ends."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # of a datagram socket: nothing is sent
        return probe.getsockname()[0] == str(address)
    return False


def _reaches_only_us(peer: str, *, private: bool) -> bool:
    address = _address(peer)
    return address is not None and (_is_own(address) or (private and not address.is_global))


def _parsed(raw: bytes, key: str) -> dict[str, Any] | _Failure:
    """The first choice's text, and the tokens that the server counted."""
    try:
        reply = json.loads(raw)
        text = reply["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        return _Failure(
            "the reply is not JSON of the form choices[0].message.content; is the server"
            " OpenAI-compatible, and does the url end in /v1?"
        )
    usage = reply.get("usage")
    told = usage if isinstance(usage, Mapping) else {}
    tokens = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    counts = [n if type(n) is int and 0 <= n < 10**12 else None for n in tokens]
    text = text.replace(key, REDACTED) if key else text
    return {"text": text, "tokens_in": counts[0], "tokens_out": counts[1]}


def _read_log(path: Path) -> dict[str, str]:
    """{hash of a question: its reply} of a log; a torn line is left out."""
    replies: dict[str, str] = {}
    for number, record in storage.read_json_lines(path)[0]:
        if not (isinstance(record.get("question"), str) and isinstance(record.get("reply"), str)):
            raise ValueError(
                f"{path}, line {number}: expected a question and a reply of an endpoint's log;"
                " give the log a path of its own"
            )
        replies[record["question"]] = record["reply"]
    return replies
