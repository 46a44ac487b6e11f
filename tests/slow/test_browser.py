"""The widgets in a real JupyterLab, driven with mouse and keyboard in a headless Chromium.

The browser is spoken to in its own DevTools protocol over a websocket; websocket-client comes with
JupyterLab. POSTLAB_SCREENSHOTS names a folder to keep the pictures in.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no browser: chromium, chromium-browser or google-chrome is not on PATH"
)
DOT = "\N{MIDDLE DOT}"  # how the widgets show a space of a token
EVIL = "<script>window.marker = 1</script><img src=x onerror='window.marker = 1'>"
ARENA = f"""
import pandas as pd
from postlab.show import arena
ids = [f"p{{i}}" for i in range(6)]
prompts = ["How do I keep bread fresh? It costs $5 here and $6 there."] * 5 + ["{EVIL}"]
sft = ["Put it in a paper bag, cut side down, in a dry cupboard. It keeps for two or three days; "
       "after that, freeze what is left in slices."] * 5 + ["{EVIL} sft"]
dpo = ["Bread is a staple food.\\n\\n1. Buy it.\\n2. Eat it."] * 5 + ["{EVIL} dpo"]
made = [pd.DataFrame({{"id": ids, "prompt": prompts, "answer": a}}) for a in (sft, dpo)]
votes = arena(dict(zip(("sft", "dpo"), made)), path="votes.jsonl")
votes
"""
CHOOSER = f"""
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from postlab.show.chooser import token_chooser
words = "2+3 5 1+1 2 end pad".split() + "{EVIL}".split()
inner = Tokenizer(models.WordLevel({{word: i for i, word in enumerate(dict.fromkeys(words))}}))
inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="end", pad_token="pad")
tokenizer.chat_template = "{{% for m in messages %}}{{{{ m.content + ' end ' }}}}{{% endfor %}}"
rows = [{{"prompt": [{{"role": "user", "content": q}}],
         "completion": [{{"role": "assistant", "content": a}}]}}
        for q, a in [("2+3", "5"), ("1+1", "2"), ("{EVIL}", "{EVIL}")]]
token_chooser(rows, tokenizer, max_length=32)
"""

EXPLORER = f"""
from postlab.show.explorer import Answer, Group
from postlab.show import rollout_explorer
asked = ["What is 2+3?", "What is 4+4?"]
tries = [("2+3=5. ", "#### 5"), ("#### ", "6")]
scores = [(1.0, 0.71), (0.0, -0.71)]
groups = [Group(step, f"{{question}} (step {{step}})",
                tuple(Answer(t, *s) for t, s in zip(tries, scores)))
          for step in (1, 2, 3) for question in asked]
groups += [Group(4, "{EVIL}", (Answer(("{EVIL[:34]}", "{EVIL[34:]}"), 1.0, 0.71),
                               Answer(("5",), 0.0, -0.71)))]
rollout_explorer(groups)
"""
MIXER = f"""
from postlab.show.mixer import SoupMixer
def answers(weights):
    if weights["honest"] == 1:
        return ["{EVIL}", "I do not know."]
    return [", ".join(f"{{100 * w:.0f}}% {{n}}" for n, w in weights.items()), "It eats figs."]
SoupMixer(answers, ["How do I burn a lamp?", "{EVIL} prompt"], ["helpful", "safe", "honest"])
"""

# The widget of the notebook. JupyterLab 3 lists its widgets in an iterator of an older kind.
NOTEBOOK = """(() => {
    const widgets = window.jupyterapp.shell.widgets('main');
    if (widgets[Symbol.iterator]) return [...widgets].find(w => w.sessionContext);
    for (let w; (w = widgets.next()) !== undefined;) if (w.sessionContext) return w;
})()"""


class Page:
    """One tab: scripts, a mouse, a keyboard, pictures."""

    def __init__(self, address: str) -> None:
        import websocket

        self.socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self.calls = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.calls:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def run(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, script: str, *, seconds: float = 60) -> Any:
        """The value of a script as soon as it is true."""
        value = until(lambda: self.run(script), seconds)
        assert value, f"not within {seconds} s: {script}\n{self.run('document.body.innerText')}"
        return value

    def click(self, element: str) -> None:
        """Click in the middle of the element that a script finds."""
        self.run(f"({element}).scrollIntoView({{block: 'center'}})")
        box = f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())"
        x, y = self.run(box)
        for kind in ("mousePressed", "mouseReleased"):
            mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **mouse)

    def press(self, key: str) -> None:
        code = {"windowsVirtualKeyCode": ord(key.upper()), "key": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=key, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, name: str) -> None:
        folder = os.environ.get("POSTLAB_SCREENSHOTS")
        if folder:
            time.sleep(0.7)
            data = self.call("Page.captureScreenshot")["data"]
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(data))


def until(found: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


@contextmanager
def started(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def reply(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def settings(folder: Path) -> dict[str, str]:
    """An environment whose JupyterLab knows nothing of the person's, and asks for no news."""
    quiet = folder / "lab" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    asks = {"fetchNews": "false", "checkForUpdates": False}
    (quiet / "notification.jupyterlab-settings").write_text(json.dumps(asks))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    places |= {"JUPYTERLAB_SETTINGS_DIR": "lab", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    places |= {"IPYTHONDIR": "ipython"}
    return os.environ | {key: str(folder / name) for key, name in places.items()}


@contextmanager
def browsing(profile: Path, environment: dict[str, str], log: Path) -> Iterator[Page]:
    """A tab of a headless Chromium with a profile folder of its own."""
    browser = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    browser += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
    browser += ["--disable-component-update", "--remote-debugging-port=0"]
    with started([*browser, f"--user-data-dir={profile}", "about:blank"], environment, log):
        told = profile / "DevToolsActivePort"
        assert until(lambda: told.exists() and told.read_text().strip(), 60), log.read_text()
        tabs = reply(f"http://127.0.0.1:{told.read_text().split()[0]}/json")
        page = Page(next(t["webSocketDebuggerUrl"] for t in tabs if t["type"] == "page"))
        page.resize(1280, 900)
        yield page


@contextmanager
def jupyter(
    folder: Path,
    python: str = sys.executable,
    *,
    codes: tuple[str, ...] = (ARENA, CHOOSER, EXPLORER, MIXER),
) -> Iterator[Page]:
    """JupyterLab with a notebook of these cells open in a browser; its files: `folder`/work."""
    work, state = folder / "work", folder / "state"
    work.mkdir()
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in codes]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, work / "nb.ipynb")
    environment = settings(state) | {"PYTHONPATH": str(ROOT)}
    port = free_port()
    server = [python, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    server += [
        f"--ServerApp.root_dir={work}",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
    ]
    server += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    logs = [folder / "lab.log", folder / "browser.log"]
    with (
        started(server, environment, logs[0]),
        browsing(state / "chromium", environment, logs[1]) as page,
    ):
        url = f"http://127.0.0.1:{port}"
        assert until(lambda: reply(f"{url}/api"), 90), logs[0].read_text()
        page.call("Page.navigate", url=f"{url}/doc/tree/nb.ipynb")
        # JupyterLab 3 calls the application by another name.
        app = "window.jupyterapp = window.jupyterapp || window.jupyterlab"
        page.wait(f"!!(({app}) && document.querySelector('.jp-CodeCell'))", seconds=120)
        page.wait(f"({NOTEBOOK})?.sessionContext.session?.kernel?.status === 'idle'", seconds=120)
        page.run(f"window.jupyterapp.shell.activateById(({NOTEBOOK}).id)")
        yield page


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Page]:
    with jupyter(tmp_path) as page:
        yield page


def button(label: str) -> str:
    every = "[...document.querySelectorAll('.jp-OutputArea button')]"
    return f"{every}.find(b => b.innerText.startsWith('{label}'))"


KEYS = "document.querySelector('.jp-OutputArea input[type=text]')"
ARENA_TEXT = "document.querySelector('.jp-OutputArea progress').closest('.jp-OutputArea').innerText"
TEXT = "[...document.querySelectorAll('.jp-OutputArea')].map(o => o.innerText).join('\\n')"


def voted(n: int) -> str:
    return f"({TEXT}).includes('{n} of 6 voted')"


def run_all(page: Page, *, restart: bool = False) -> None:
    if not restart:
        page.run("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        return
    page.run("window.before = document.querySelector('.jp-OutputArea progress')")
    page.run("void window.jupyterapp.commands.execute('notebook:restart-run-all')")
    accept = "document.querySelector('.jp-Dialog button.jp-mod-accept')"
    page.wait(f"!!{accept}")
    page.click(accept)
    page.wait("!window.before.isConnected")


def saved(folder: Path) -> list[str]:
    lines = (folder / "work" / "votes.jsonl").read_text().splitlines()
    return [json.loads(line).get("choice", "undo") for line in lines]


def test_votes_by_mouse_and_keyboard_outlive_the_kernel(lab: Page, tmp_path: Path):
    run_all(lab)
    lab.wait(voted(0), seconds=120)
    lab.wait(f"({TEXT}).includes('row 0: ')", seconds=120)
    lab.picture("arena")
    lab.click(button("1"))
    lab.wait(voted(1))
    assert saved(tmp_path) == ["first"]
    time.sleep(0.5)  # sooner would be a slip
    lab.press("2")  # the click has put the cursor into the field for keys
    lab.wait(voted(2))
    time.sleep(0.5)
    lab.click(KEYS)
    for n, key in enumerate("0u0", start=3):
        lab.press(key)
        lab.wait(voted({3: 3, 4: 2, 5: 3}[n]))
        time.sleep(0.5)
    assert saved(tmp_path) == ["first", "second", "tie", "undo", "tie"]
    assert lab.run("document.querySelectorAll('.jp-CodeCell').length") == 4  # no key was a shortcut
    lab.resize(520, 900)
    lab.picture("arena-narrow")
    output = "document.querySelector('.jp-OutputArea-output')"
    assert lab.run(f"{output}.scrollWidth <= {output}.clientWidth")  # nothing is cut off
    lab.resize(1280, 900)
    waiting = lab.run(ARENA_TEXT)

    run_all(lab, restart=True)
    lab.wait(voted(3), seconds=120)
    again = lab.run(ARENA_TEXT)
    assert again == waiting
    lab.click(KEYS)
    for n in (4, 5, 6):
        lab.press("1")
        lab.wait(voted(n))
        time.sleep(0.5)
    lab.wait(f"({TEXT}).includes('inconclusive')")
    lab.picture("arena-result")
    assert saved(tmp_path)[-3:] == ["first"] * 3


def test_what_a_model_writes_is_shown_as_text(lab: Page):
    run_all(lab)
    lab.wait(voted(0), seconds=120)
    lab.wait(f"({TEXT}).includes('row 0: ')", seconds=120)
    seen = []
    for n in range(6):
        seen.append(lab.run(TEXT))
        if "<script>" in seen[-1]:
            lab.picture("arena-escaped")
        assert not lab.run("!!document.querySelector('.jp-OutputArea mjx-container')")  # $5 and $6
        lab.click(button("0"))
        lab.wait(voted(n + 1))
        time.sleep(0.5)
    assert any(f"{EVIL} sft" in text and f"{EVIL} dpo" in text for text in seen)
    for row in (1, 2):
        lab.click(button("Next"))
        lab.wait(f"({TEXT}).includes('row {row}: ')")
    lab.picture("tokens")
    assert "<script>window.marker" in lab.run(TEXT)
    time.sleep(1)
    assert lab.run("window.marker === undefined")
    # The same page can be harmed by text that is not escaped, so the line before can fail.
    lab.run(f'document.body.insertAdjacentHTML("beforeend", "{EVIL}")')
    lab.wait("window.marker === 1")


def test_the_explorer_steps_through_training_and_shows_answers_as_text(lab: Page):
    run_all(lab)
    lab.wait(f"({TEXT}).includes('What is 2+3? (step 1)')", seconds=120)
    lab.wait(f"({TEXT}).includes('step 1, prompt 1 of 2')")
    lab.picture("explorer")
    for step in (2, 3):
        lab.click(button("Later step"))
        lab.wait(f"({TEXT}).includes('step {step}, prompt 1 of 2')")
    blue = "[...document.querySelectorAll('.jp-OutputArea pre span')].filter(s => "
    blue += "getComputedStyle(s).backgroundColor.startsWith('rgba(0, 114, 178'))"
    assert lab.run(f"{blue}.map(s => s.innerText).join('')").replace(DOT, " ") == "2+3=5. #### 5"
    lab.click(button("Earlier step"))
    lab.wait(f"({TEXT}).includes('step 2, prompt 1 of 2')")
    for _ in range(2):
        lab.click(button("Later step"))
    lab.wait(f"({TEXT}).includes('step 4, prompt 1 of 1')")
    lab.picture("explorer-escaped")
    said = lab.run(f"{blue}.map(s => s.innerText).join('')").replace(DOT, " ")
    assert said == EVIL and EVIL in lab.run(TEXT)  # as an answer, and as a prompt
    time.sleep(1)
    assert lab.run("window.marker === undefined")
    lab.run(f'document.body.insertAdjacentHTML("beforeend", "{EVIL}")')
    lab.wait("window.marker === 1")


def test_the_mixer_answers_by_its_sliders_and_shows_answers_as_text(lab: Page):
    run_all(lab)
    lab.wait(f"({TEXT}).includes('weights helpful 0.33, safe 0.33, honest 0.33')", seconds=120)
    lab.wait(f"({TEXT}).includes('33% helpful, 33% safe, 33% honest')")
    lab.picture("mixer")
    lab.click(button("Only safe"))
    lab.wait(f"({TEXT}).includes('0% helpful, 100% safe, 0% honest')")
    handle = "[...document.querySelectorAll('.jp-OutputArea .noUi-handle')]"
    lab.wait(f"{handle}.length >= 3")
    lab.run(f"{handle}.at(-3).focus()")  # the mixer's first slider, as its cell is the last
    arrow = {"key": "ArrowRight", "windowsVirtualKeyCode": 39}
    for _ in range(4):
        lab.call("Input.dispatchKeyEvent", type="keyDown", **arrow)
        lab.call("Input.dispatchKeyEvent", type="keyUp", **arrow)
    lab.wait(f"({TEXT}).includes('25% helpful, 75% safe, 0% honest')")
    assert f"{EVIL} prompt" in lab.run(TEXT)
    lab.click(button("Only honest"))
    lab.wait(f"({TEXT}).includes('I do not know.')")
    lab.picture("mixer-escaped")
    assert lab.run(TEXT).count(EVIL) >= 2  # as an answer, and as a prompt
    time.sleep(1)
    assert lab.run("window.marker === undefined")
    lab.run(f'document.body.insertAdjacentHTML("beforeend", "{EVIL}")')
    lab.wait("window.marker === 1")


CODE = f"[...({NOTEBOOK}).content.model.cells].filter(c => c.type === 'code')"


@pytest.mark.skipif(
    not (hasattr(os, "geteuid") and os.geteuid() == 0 and (ROOT / ".venv/setup.stamp").exists()),
    reason="only root meets what a rented machine does, and only with the .venv of `make setup`",
)
def test_make_lab_serves_root_on_localhost_and_a_notebook_runs_to_its_end(tmp_path: Path):
    import psutil

    environment = settings(tmp_path / "state") | {"POSTLAB_RUNS": str(tmp_path / "runs")}
    environment["POSTLAB_PROFILE"] = "tiny"
    for name, folder, setting in (  # so that the page can be asked, and the notebook stays as it is
        ("jupyter_server_config.json", "config", {"LabApp": {"expose_app_in_browser": True}}),
        ("plugin.jupyterlab-settings", "lab/@jupyterlab/docmanager-extension", {"autosave": False}),
    ):
        path = tmp_path / "state" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    log = tmp_path / "lab.log"
    address = re.compile(r"http://localhost:(\d+)/lab\?token=\w+")
    with (
        port_taken(8888),
        started(["make", "-C", str(ROOT), "lab"], environment, log),
        browsing(tmp_path / "chromium", environment, tmp_path / "browser.log") as page,
    ):
        match = until(lambda: address.search(log.read_text()), 120)
        assert match, log.read_text()
        port = match[1]
        assert port != "8888" and f"ssh -N -L {port}:localhost:{port} root@" in log.read_text()
        server = [c for c in psutil.net_connections("tcp") if c.laddr.port == int(port)]
        assert {c.laddr.ip for c in server if c.status == "LISTEN"} <= {"127.0.0.1", "::1"}
        assert until(lambda: reply(f"http://127.0.0.1:{port}/api"), 60)
        assert reply(f"http://127.0.0.1:{port}/api/contents") is None  # not without the token
        week = "/doc/tree/week12_portfolio.ipynb?"
        page.call("Page.navigate", url=match[0].replace("/lab?", week))
        page.wait("!!(window.jupyterapp && document.querySelector('.jp-CodeCell'))", seconds=120)
        page.wait(f"({NOTEBOOK})?.sessionContext.session?.kernel?.status === 'idle'", seconds=120)
        run_all(page)
        page.wait(f"{CODE}.every(cell => cell.executionCount)", seconds=400)
        page.wait(f"({NOTEBOOK}).sessionContext.session.kernel.status === 'idle'", seconds=400)
        outputs = json.loads(
            page.run(f"JSON.stringify({CODE}.flatMap(cell => cell.outputs.toJSON()))")
        )
        page.run(f"void ({NOTEBOOK}).content.scrollToItem({NOTEBOOK}.content.widgets.length - 2)")
        page.picture("make-lab")
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()


@contextmanager
def port_taken(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        with suppress(OSError):  # somebody's Jupyter has it already, which will do
            listener.bind(("127.0.0.1", port))
            listener.listen()
        yield
