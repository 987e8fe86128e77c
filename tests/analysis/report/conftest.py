"""Small runs to report on, and a real browser without a window, driven over a pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

import pytest

import fimp
from fimp.analysis.report import find_run
from fimp.analysis.report.write import build_page
from fimp.data.options import CellOptions
from fimp.models import resolve_all
from fimp.tasks import ExpressionOptions
from fimp.train.compare import Comparison
from fimp.train.options import TrainOptions
from fimp.train.runs import RunConfig

#: Names under which systems have it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: What a reader would notice: how wide the page is, images that did not load, and figures without a size.
LOOK = """(() => {
  const root = document.documentElement;
  const flat = [...document.querySelectorAll("figure svg, figure img")].filter(one => {
    const box = one.getBoundingClientRect(); return box.width < 50 || box.height < 50;
  });
  return {
    scroll: root.scrollWidth, view: root.clientWidth,
    broken: [...document.images].filter(one => !one.complete || one.naturalWidth === 0).length,
    flat: flat.length, ids: document.querySelectorAll("[id]").length,
    unique: new Set([...document.querySelectorAll("[id]")].map(one => one.id)).size,
    ink: getComputedStyle(document.body).color, page: getComputedStyle(document.body).backgroundColor,
  };
})()"""


class Browser:
    """Opens pages and tells what happens; messages are those of the Chrome DevTools protocol."""

    def __init__(self, program, profile):
        out, self._write = os.pipe()
        self._read, back = os.pipe()
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]

        def pipes():
            # Chromium reads messages from 3 and writes them to 4.
            os.dup2(out, 13), os.dup2(back, 14)
            os.dup2(13, 3), os.dup2(14, 4)

        log = subprocess.DEVNULL
        self._process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stdout=log, stderr=log)
        os.close(out), os.close(back)
        self._number, self._rest, self.events, self._session = 0, b"", [], None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        deadline = time.monotonic() + 90
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            self._rest += os.read(self._read, 1 << 20)
        head, _, self._rest = self._rest.partition(b"\0")
        return json.loads(head)

    def look(self, path, width, dark=False, shot=None):
        """Open a file; gives what :data:`LOOK` finds, what the console said, and what was asked of the network."""
        self.events.clear()
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        found = self("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
        if shot is not None:
            picture = self("Page.captureScreenshot", captureBeyondViewport=True, format="png")
            shot.write_bytes(base64.b64decode(picture["data"]))
        said = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        found["console"] = [event["params"] for event in self.events if event.get("method") in said]
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        found["network"] = [url for url in asked if not url.startswith(("data:", "file:"))]
        return found

    def close(self):
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read), os.close(self._write)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium here")
    opened = Browser(program, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


class Silent:
    """Watches a comparison and says nothing."""

    def begin(self, run): ...

    def advance(self, run, share, text): ...

    def end(self, run, result, *, reused): ...


def compared(task, source, data, options, models, folder, epochs=1, seeds=2):
    """Do a small comparison, and give its folder."""
    choices = resolve_all(models)
    config = RunConfig(
        task=task,
        source=str(source),
        data=data,
        options=options,
        train=TrainOptions(epochs=epochs, batch_size=64, device="cpu"),
        model=choices[0].name,
        hyperparameters=choices[0].hyperparameters,
        seed=0,
    )
    choices = config.make_task(config.read()).rows(choices)
    Comparison(config, choices, seeds, folder, jobs=1).run(Silent())
    return folder


@pytest.fixture(scope="session")
def tissue(tmp_path_factory):
    """Cells in a file, and genes, that have names which HTML and matplotlib would read otherwise."""
    adata = fimp.data.simulate.tissue(n_cells=200, n_genes=12, n_pairs=3)
    adata.var_names = ["<script>alert(1)</script>", "$a_b$", '"x" & y', *adata.var_names[3:]]
    path = tmp_path_factory.mktemp("data") / "a<b>&'c'.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def comparison(tissue, tmp_path_factory):
    """A comparison of expression with a figure of attention beside it; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("runs") / "cells"
    return compared("expression", tissue, CellOptions(), ExpressionOptions(), "mean,gcn,fimp-base", folder)


@pytest.fixture(scope="session")
def report_of():
    """The page of a run, and the sentences on what was left out."""

    def make(folder):
        page = build_page(find_run(folder), lambda task: [("Again:", "fimp compare")])
        return page.html(), page.left_out

    return make
