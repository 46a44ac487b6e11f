"""An endpoint against hostile servers: every question ends by its deadline, and no answer is lost.

The servers are sockets on this machine that write bytes as they are told, so that they can break
every rule of HTTP.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import logging
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse

import pytest

from postlab.judge import endpoint, endpoint_judge, judge_pairs
from postlab.judge.endpoint import JudgeError, Spent, is_local, retry_after_s
from postlab.runs import trace_code

KEY = "sk-canary-0123456789abcdef"
TIMEOUT, DEADLINE, SLACK = 0.4, 1.2, 1.5  # seconds; the slack is for a machine that does much else


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "PAUSE_S", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Server:
    """Answers each connection with `handle(connection, number from 1)` once a question is in."""

    def __init__(self, handle, *, tls=None) -> None:
        self.handle, self.tls, self.asked = handle, tls, []
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' * bool(tls)}://127.0.0.1:{self.port}/v1"
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection) -> None:
        try:
            connection.settimeout(10)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            request = b""
            while not _whole(request):
                piece = connection.recv(65536)
                if not piece:
                    return
                request += piece
            with self._lock:
                self.asked.append(request)
                number = len(self.asked)
            self.handle(connection, number)
        except OSError:
            pass
        finally:
            connection.close()

    def drip(self, connection, piece: bytes, every: float = 0.05) -> None:
        while not self.closed.is_set():
            connection.sendall(piece)
            time.sleep(every)


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = [h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")]
    return bool(end) and len(body) >= (int(length[0].split(b":")[1]) if length else 0)


@pytest.fixture
def serve():
    servers = []

    def start(handle, **options) -> Server:
        servers.append(Server(handle, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(text: str = "A", usage: object = None) -> bytes:
    reply = {"choices": [{"message": {"content": text}}]} | ({"usage": usage} if usage else {})
    return http(json.dumps(reply).encode(), "200 OK", "Content-Type: application/json")


def sends(data: bytes):
    return lambda server, connection: connection.sendall(data)


def drips(start: bytes, piece: bytes):
    def handle(server, connection):
        connection.sendall(start)
        server.drip(connection, piece)

    return handle


def flood(start: bytes, piece: bytes):
    def handle(server, connection):
        connection.sendall(start)
        while not server.closed.is_set():
            connection.sendall(piece)

    return handle


def reset(server, connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b" " * 30_000_000)
HOSTILE = {  # what the server does, what the message names, whether it is asked again
    "headers, a byte at a time": (drips(b"HTTP/1.1 200 OK\r\n", b"X"), "no whole reply", True),
    "a body, a byte at a time": (
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" "), "no whole reply", True,
    ),
    "endless 100 Continue": (
        flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "no whole reply", True,
    ),
    "silence": (drips(b"", b""), "no whole reply", True),
    "endless redirects": (
        sends(http(b"", "307 Again", "Location: /v1/chat/completions")), "redirect", False,
    ),
    "a redirect to another host": (
        sends(http(b"", "302 Found", "Location: http://judge.example/")), "redirect", False,
    ),
    "429, Retry-After of an hour": (
        sends(http(b"", "429 Busy", "Retry-After: 3600")), "asks to wait 3,600 s", False,
    ),
    "429, Retry-After as a date": (
        sends(http(b"", "429 Busy", f"Retry-After: {email.utils.formatdate(2e9, usegmt=True)}")),
        "asks to wait", False,
    ),
    "429, no credit": (
        sends(http(b'{"error": {"code": "insufficient_quota"}}', "429 X")), "no credit", False,
    ),
    "500 for ever": (sends(http(KEY.encode(), f"500 {KEY}")), "HTTP 500", True),
    "a huge body": (
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000),
        "over 1 MB", False,
    ),
    "an endless body": (flood(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), "over 1 MB", False),
    "a gzip bomb": (sends(http(BOMB, "200 OK", "Content-Encoding: gzip")), "over 1 MB", False),
    "gzip that is none": (
        sends(http(b"<html>", "200 OK", "Content-Encoding: gzip")), "broken", True,
    ),
    "no JSON": (sends(http(b"<html>")), "choices", False),
    "JSON 100,000 deep": (sends(http(b"[" * 100_000)), "choices", False),
    "JSON of another shape": (sends(http(b'{"choices": {"message": 1}}')), "choices", False),
    "JSON that is a list": (sends(http(b"[1]")), "choices", False),
    "a reset half way": (reset, "cut short|closed the connection", True),
    "an end half way": (
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"), "cut short", True,
    ),
    "no HTTP": (sends(b"SSH-2.0-hello\r\n"), "a broken reply", True),
    "2,000 headers": (
        sends(http(b"", "200 OK", *(f"X{i}: {KEY}" for i in range(2000)))), "broken|closed", True,
    ),
    "an echo of the key": (sends(http(KEY.encode(), f"401 No {KEY}", f"X: {KEY}")), "the key",
                           False),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_ends_in_an_error_by_the_deadline(serve, caplog, capsys, tmp_path, name):
    act, expected, again = HOSTILE[name]
    good = []

    def handle(connection, number):
        if good:
            connection.sendall(answer("B"))
        else:
            act(server, connection)

    server = serve(handle)
    caplog.set_level(logging.DEBUG)
    slow = expected == "no whole reply"  # the others answer at once, if the machine lets them
    timeout, deadline = (TIMEOUT, DEADLINE) if slow else (5, 15)
    judge = endpoint_judge(
        server.url, model="m", timeout=timeout, deadline=deadline, retries=2,
        log=tmp_path / "log.jsonl",
    )  # fmt: skip
    begun = time.monotonic()
    with pytest.raises(JudgeError, match=expected) as caught:
        judge("2+2?", "4", "5")
    assert time.monotonic() - begun < deadline + SLACK
    assert (len(server.asked) > 1) == again and len(server.asked) <= 3
    error = caught.value
    ours = error.__traceback__.tb_next  # without this test's own frame, which holds the server
    frames = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    assert KEY not in "".join([*frames.format(), str(error), caplog.text, *capsys.readouterr()])
    assert error.__cause__ is None and error.__context__ is None
    good.append(True)  # the server comes to its senses, and nothing of the old trouble is left
    assert judge("2+2?", "4", "5") == "second" and judge.spent.answers == 1


def test_a_short_retry_after_is_waited_for_and_the_answer_counts(serve):
    times = []

    def handle(connection, number):
        times.append(time.monotonic())
        connection.sendall(http(b"", "429 X", "Retry-After: 1") if number == 1 else answer())

    assert endpoint_judge(serve(handle).url, model="m")("p", "x", "y") == "first"
    assert 1 <= times[1] - times[0] < 3


def test_retry_after_is_read_in_both_forms():
    soon = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 < retry_after_s(soon) <= 60
    for text in ("", "-1", "nan", "inf", "1e999", "9" * 400, "Wed, 99 Foo", "\x00", "²"):
        assert retry_after_s(text) == 0
    assert retry_after_s(" 7 ") == 7


def test_a_key_in_a_reply_is_neither_returned_nor_logged(serve, tmp_path):
    server = serve(lambda connection, number: connection.sendall(answer(f"your key: {KEY}")))
    chat = endpoint.Endpoint(server.url, model="m", max_tokens=9, log=tmp_path / "log.jsonl")
    assert chat([{"role": "user", "content": "q"}]) == "your key: <redacted>"
    assert KEY not in (tmp_path / "log.jsonl").read_text("utf-8")


def test_a_host_that_is_found_slowly_is_given_up_too(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(5))
    judge = endpoint_judge("https://judge.example/v1", model="m", timeout=0.3, retries=0)
    begun = time.monotonic()
    with pytest.raises(JudgeError, match="no whole reply"):
        judge("p", "x", "y")
    assert time.monotonic() - begun < 0.3 + SLACK


# --- who may see the key ---

LOCAL = ["localhost", "LOCALHOST", "localhost.", "judge.localhost", "127.0.0.1", "127.9.8.7",
         "127.1", "0x7f000001", "2130706433", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
         "0.0.0.0", "[::]"]  # fmt: skip
ELSEWHERE = ["judge.example", "127.0.0.1.judge.example", "localhost.judge.example", "xlocalhost",
             "10.0.0.1", "192.168.1.9", "8.8.8.8", "[2001:4860:4860::8888]",
             "[fe80::1]"]  # fmt: skip


@pytest.mark.parametrize("proxy", ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"])
def test_a_proxy_never_sees_a_question_to_this_machine(serve, monkeypatch, proxy):
    spy = serve(lambda connection, number: connection.sendall(answer("B")))
    server = serve(lambda connection, number: connection.sendall(answer("A")))
    monkeypatch.setenv(proxy, f"http://127.0.0.1:{spy.port}")
    for host in ("localhost", "127.0.0.1", "127.1"):
        judge = endpoint_judge(f"http://{host}:{server.port}/v1", model="m")
        assert judge("p", "x", "y") == "first"
    assert spy.asked == []


@pytest.mark.parametrize("host", LOCAL)
def test_all_names_of_this_machine_are_local(host):
    assert is_local(urllib.parse.urlsplit(f"http://{host}/").hostname)
    assert endpoint_judge(f"http://{host}:1/v1", model="m")._chat._proxy() is None


@pytest.mark.parametrize("host", ELSEWHERE)
def test_another_machine_needs_https_or_the_switch(host):
    assert not is_local(urllib.parse.urlsplit(f"http://{host}/").hostname)
    with pytest.raises(ValueError, match="use https"):
        endpoint_judge(f"http://{host}/v1", model="m")
    endpoint_judge(f"https://{host}/v1", model="m")
    endpoint_judge(f"http://{host}/v1", model="m", allow_http=True)


def test_a_name_is_believed_only_if_it_leads_where_it_says(serve, monkeypatch):
    """A resolver that sends localhost, or a private name, to a public address gets nothing."""
    server = serve(lambda connection, number: connection.sendall(answer()))
    judges = [endpoint_judge(f"http://localhost:{server.port}/v1", model="m", retries=0),
              endpoint_judge(f"http://box:{server.port}/v1", model="m", retries=0,
                             allow_http=True)]  # fmt: skip
    find = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **kw: find("127.0.0.1", *args, **kw)
    )
    assert [judge("p", "x", "y") for judge in judges] == ["first", "first"]
    monkeypatch.setattr(endpoint, "_is_own", lambda address: str(address) == "192.0.2.1")
    monkeypatch.setattr(endpoint, "_address", lambda host: endpoint.ipaddress.ip_address("8.8.8.8"))
    for judge in judges:
        with pytest.raises(JudgeError, match="nothing was sent"):
            judge("p", "x", "z")
    time.sleep(0.05)
    assert len(server.asked) == 2


def test_an_encrypted_question_goes_through_the_proxy_unseen(serve, monkeypatch):
    proxy = serve(lambda connection, number: connection.sendall(http(b"", "403 No")))
    monkeypatch.setenv("https_proxy", f"http://me:{KEY}x@127.0.0.1:{proxy.port}")
    judge = endpoint_judge("https://judge.example/v1", model="m", retries=0)
    with pytest.raises(JudgeError, match="https_proxy right") as caught:
        judge("the prompt", "x", "y")
    assert proxy.asked[0].startswith(b"CONNECT judge.example:443")
    assert KEY.encode() not in proxy.asked[0] and b"the prompt" not in proxy.asked[0]
    assert b"Proxy-Authorization: Basic" in proxy.asked[0] and KEY not in str(caught.value)
    monkeypatch.setenv("https_proxy", f"socks5://{KEY}@127.0.0.1:{proxy.port}")
    with pytest.raises(JudgeError, match="only kind of proxy") as caught:
        judge("p", "x", "y")
    assert KEY not in str(caught.value)
    monkeypatch.setenv("no_proxy", "judge.example")
    assert judge._chat._proxy() is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for judge.example and 127.0.0.1, and the server's side of it."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = [
        "-subj",
        "/CN=judge.example",
        "-addext",
        "subjectAltName=DNS:judge.example,IP:127.0.0.1",
    ]
    try:
        subprocess.run(
            ["openssl", "req", "-x509", *curve, *names, *files], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl to make a certificate")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", tls


def test_an_unknown_certificate_is_an_error_before_anything_is_sent(
    serve, certificate, monkeypatch
):
    file, tls = certificate
    server = serve(lambda connection, number: connection.sendall(answer()), tls=tls)
    with pytest.raises(JudgeError, match="no secure connection"):
        endpoint_judge(server.url, model="m")("p", "x", "y")
    plain = serve(None)
    plain._serve = lambda connection: connection.sendall(http(b"", "400 Bad Request"))
    with pytest.raises(JudgeError, match="does the server speak https"):
        endpoint_judge(plain.url.replace("http:", "https:"), model="m")("p", "x", "y")
    assert server.asked == plain.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert endpoint_judge(server.url, model="m")("p", "x", "y") == "first"


def test_a_handshake_a_byte_at_a_time_ends_too(serve):
    server = serve(None)
    server._serve = lambda connection: server.drip(connection, b"\x16\x03\x03\x40\x00"[:1])
    judge = endpoint_judge(
        server.url.replace("http:", "https:"), model="m", timeout=TIMEOUT, retries=0
    )
    begun = time.monotonic()
    with pytest.raises(JudgeError):
        judge("p", "x", "y")
    assert time.monotonic() - begun < TIMEOUT + SLACK


def test_a_tunnel_through_a_proxy_carries_the_question(serve, certificate, monkeypatch):
    file, tls = certificate
    inside = []

    def handle(connection, number):
        connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
        with tls.wrap_socket(connection, server_side=True) as tunnel:
            request = b""
            while not _whole(request):
                request += tunnel.recv(65536)
            inside.append(request)
            tunnel.sendall(answer())

    proxy = serve(handle)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
    assert endpoint_judge("https://judge.example/v1", model="m")("p", "x", "y") == "first"
    assert KEY.encode() in inside[0] and KEY.encode() not in proxy.asked[0]
    assert b"Host: judge.example\r\n" in inside[0]


# --- what has been paid for ---

PROMPTS = [f"prompt {i}" for i in range(50)]
PAIRS = (PROMPTS, ["short"] * 50, ["longer"] * 50)
USAGE = {"prompt_tokens": 1000, "completion_tokens": 2}


def longer(request: bytes) -> bytes:
    """What a judge says that likes the longer answer, with the tokens it counts."""
    return answer("A" if b'Answer A: \\"longer' in request else "B", USAGE)


def test_a_run_with_every_tenth_call_failing_loses_no_vote(serve):
    def handle(connection, number):
        bad = [http(b"", "429 X", "Retry-After: 0"), http(b"", "500 X"), b""][number % 3]
        connection.sendall(bad if number % 10 == 0 else longer(server.asked[number - 1]))

    server = serve(handle)
    judge = endpoint_judge(server.url, model="m")
    votes = judge_pairs(judge, *PAIRS)
    assert len(votes) == 100 and set(votes["choice"]) == {"b"}
    assert judge.spent.answers == 100 and len(server.asked) == 111
    assert judge.spent.tokens_in == 100_000


@pytest.mark.parametrize("concurrency", [1, 4])
def test_after_a_failure_a_new_judge_goes_on_from_the_log(serve, tmp_path, concurrency):
    broken = [True]

    def handle(connection, number):
        if number > 40 and broken:
            connection.sendall(http(b"", "429 X", "Retry-After: 3600"))
        else:
            connection.sendall(longer(server.asked[number - 1]))

    server, log = serve(handle), tmp_path / "judge" / "log.jsonl"
    # Of four at work, three may still be writing theirs when the fourth says what is kept.
    with pytest.raises(JudgeError, match="(3[789]|40) answers are kept in log.jsonl"):
        judge_pairs(endpoint_judge(server.url, model="m", log=log), *PAIRS, concurrency=concurrency)
    kept = log.read_bytes().count(b"\n")
    assert kept == 40
    broken.clear()
    asked = len(server.asked)
    log.write_bytes(log.read_bytes()[:-5])  # and the machine went down
    judge = endpoint_judge(server.url, model="m", log=log)
    votes = judge_pairs(judge, *PAIRS, concurrency=concurrency)
    assert len(server.asked) - asked == 61 and judge.spent.logged == 39
    assert len(votes) == 100 and set(votes["choice"]) == {"b"}
    assert judge_pairs(endpoint_judge(server.url, model="m", log=log), *PAIRS).equals(votes)
    assert len(server.asked) - asked == 61
    assert "prompt 3" not in log.read_text("utf-8") and KEY not in log.read_text("utf-8")


def test_another_model_or_address_takes_nothing_from_the_log(serve, tmp_path):
    server = serve(lambda connection, number: connection.sendall(answer()))
    log = tmp_path / "log.jsonl"
    for url, model in ((server.url, "m"), (server.url, "n"), (server.url[:-1] + "2", "m")):
        endpoint_judge(url, model=model, log=log)("p", "x", "y")
    assert len(server.asked) == 3


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "# Notes\n", '{"pair": "x"}\n', "[1]\n"])
def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "notes"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="of its own"):
        endpoint_judge("http://localhost/v1", model="m", log=path)
    assert path.read_text("utf-8") == text


def test_a_question_asked_from_several_threads_is_paid_for_once(serve):
    def handle(connection, number):
        time.sleep(0.1)
        connection.sendall(answer("A"))

    server = serve(handle)
    judge = endpoint_judge(server.url, model="m")
    votes = judge_pairs(judge, ["p"] * 8, ["same"] * 8, ["same"] * 8, concurrency=8)
    assert len(server.asked) == 1 and list(votes["choice"]) == ["a", "b"] * 8


def test_several_calls_at_once_give_the_same_votes_sooner(serve):
    def handle(connection, number):
        time.sleep(0.05)
        connection.sendall(longer(server.asked[number - 1]))

    server = serve(handle)
    some = [column[:10] for column in PAIRS]
    seconds, votes = [], []
    for concurrency in (1, 5):
        begun = time.monotonic()
        votes.append(
            judge_pairs(endpoint_judge(server.url, model="m"), *some, concurrency=concurrency)
        )
        seconds.append(time.monotonic() - begun)
    assert votes[0].equals(votes[1]) and seconds[1] < seconds[0] / 2
    with pytest.raises(ValueError, match="concurrency is 0"):
        judge_pairs(lambda p, x, y: "tie", *some, concurrency=0)


def test_progress_tells_the_cost_or_that_it_is_unknown(serve, capsys):
    usage: list[object] = [USAGE]
    server = serve(lambda connection, number: connection.sendall(answer("A", usage[0])))
    judge = endpoint_judge(server.url, model="m", usd_per_million=(0.5, 2.0))
    judge_pairs(judge, ["p", "q"], ["x", "x"], ["y", "y"])
    assert judge.spent.usd == pytest.approx((4000 * 0.5 + 8 * 2.0) / 1e6)
    assert "4,000 tokens in, 8 out, $0.0020" in capsys.readouterr().out
    for odd in (None, [], {"prompt_tokens": "x", "completion_tokens": 1}, {"prompt_tokens": True},
                {"prompt_tokens": -1, "completion_tokens": 1}):  # fmt: skip
        usage[0] = odd
        judge_pairs(judge, [f"r {odd}"], ["x"], ["y"])
        assert judge.spent.usd is None and "cost unknown" in capsys.readouterr().out
    assert judge.spent.untold == 10 and judge.spent.answers == 14
    assert str(Spent(1, 0, 10, 2)) == "10 tokens in, 2 out, cost unknown"


def test_many_questions_share_a_few_threads_and_a_forked_process_gets_its_own(serve):
    server = serve(lambda connection, number: connection.sendall(answer()))
    judge = endpoint_judge(server.url, model="m", timeout=5, retries=0)
    for number in range(20):
        judge(f"p {number}", "x", "y")
    mine = [thread for thread in threading.enumerate() if thread.name == "postlab-endpoint"]
    assert len(mine) <= 20
    asked = threading.active_count()
    for number in range(20, 40):
        judge(f"p {number}", "x", "y")
    assert threading.active_count() <= asked + 2
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if judge("in the child", "x", "y") == "first" else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


def test_a_reward_that_asks_an_endpoint_is_the_same_after_many_answers(serve, tmp_path):
    """Its code is part of a run's key: what it has been told is no reason to train again."""
    server = serve(lambda connection, number: connection.sendall(answer()))

    def traced(judge):
        def reward(prompts, completions):
            return [float(judge("p", text, "y") == "first") for text in completions]

        trace = trace_code(reward)
        assert trace.unreadable == ()
        return trace.sha256

    judge = endpoint_judge(server.url, model="m", log=tmp_path / "log.jsonl")
    before = traced(judge)
    judge_pairs(judge, *[column[:5] for column in PAIRS], concurrency=3)
    assert traced(judge) == before
    assert traced(endpoint_judge(server.url, model="m", log=tmp_path / "log.jsonl")) == before
    assert traced(endpoint_judge(server.url, model="n")) != before


def test_the_learners_seed_is_left_alone(serve):
    def handle(connection, number):
        connection.sendall(http(b"", "503 X") if number < 3 else answer())

    random.seed(1)
    state = random.getstate()
    assert endpoint_judge(serve(handle).url, model="m")("p", "x", "y") == "first"
    assert random.getstate() == state


@pytest.mark.parametrize("option", [{"timeout": 0}, {"deadline": -1}, {"retries": -1},
                                    {"usd_per_million": (1,)}, {"usd_per_million": (-1, 2)},
                                    {"timeout": float("nan")}])  # fmt: skip
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        endpoint_judge("http://localhost/v1", model="m", **option)


def test_importing_postlab_loads_no_network_library():
    code = "import postlab, sys; print({'ssl', 'http.client', 'httpx', 'socket'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
