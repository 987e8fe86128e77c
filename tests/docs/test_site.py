"""The documentation builds without a warning, has every public name, and loads nothing from a network."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import pytest

import fimp

for package in ("sphinx", "furo", "myst_parser", "latex2mathml"):
    pytest.importorskip(package)

DOCS = Path(__file__).parents[2] / "docs"
#: What browsers fetch by themselves, by element: attributes with addresses. A link that is clicked is not among them.
LOADED = {
    "script": ("src",), "img": ("src", "srcset"), "link": ("href",), "iframe": ("src",), "source": ("src", "srcset"),
    "video": ("src", "poster"), "audio": ("src",), "embed": ("src",), "object": ("data",), "input": ("src",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
}  # fmt: skip
#: Links in the head that say something of the page and are not fetched.
NAMED = {"next", "prev", "index", "search", "canonical", "author", "top", "up", "genindex"}


class Page(HTMLParser):
    """What a page loads, and what it has."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.ids, self.links, self.formulas, self.images = [], set(), [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.formulas += tag == "math"
        if tag == "img":
            self.images.append(found)
        if not (tag == "link" and found.get("rel") in NAMED):
            self.loaded += [found[name] for name in LOADED.get(tag, ()) if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", out / "doctrees"]
    done = subprocess.run([*command, DOCS, out / "html"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site): Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_public_name_is_in_the_reference(pages):
    ids = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "api"))
    missing = []
    modules = [fimp, *(getattr(fimp, name) for name in fimp.__all__ if inspect.ismodule(getattr(fimp, name)))]
    modules += [importlib.import_module(name) for name in ("fimp.analysis", "fimp.estimators")]
    for module in modules:
        for name in module.__all__:
            full, found = f"{module.__name__}.{name}", getattr(module, name)
            wanted = {full, f"fimp.estimators.{name}"} if module is fimp else {full}
            if inspect.ismodule(found):
                wanted = {f"module-{found.__name__}"}
            if not wanted & ids:
                missing.append(full)
    assert not missing


def test_nothing_is_loaded_from_a_network(site, pages):
    for path, page in pages.items():
        assert page.loaded, path
        for address in page.loaded:
            parts = urlsplit(address)
            assert not parts.netloc, f"{path} loads {address}"
            if not parts.scheme and parts.path:
                assert (site / path.parent / parts.path).is_file(), f"{path}: {address} is missing"
    for path in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import\s)\s*['\"]?([^'\")\s;]+)", path.read_text()):
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"
    for path in site.rglob("*.js"):
        assert not re.search(r"(?:import|fetch|src\s*=)\s*\(?['\"`]https?://", path.read_text()), path.name


def test_links_lead_somewhere(site, pages):
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("https", "mailto"), f"{path}: {link}"
                continue
            target = (site / path.parent / parts.path).resolve() if parts.path else (site / path).resolve()
            assert target.is_file(), f"{path}: {link}"
            # Sphinx makes searches and permalinks by itself; anchors of pages are checked.
            if anchor and target.suffix == ".html":
                assert anchor in pages[target.relative_to(site.resolve())].ids, f"{path}: {link}"


def test_formulas_are_set_and_pictures_are_described(pages):
    assert pages[Path("mathematics.html")].formulas > 20
    assert pages[Path("api/nn.html")].formulas > 3
    for path, page in pages.items():
        assert all(image.get("alt") for image in page.images), path


def test_a_broken_link_is_an_error(tmp_path):
    for name in ("conf.py", "_static"):
        source = DOCS / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "index.md").write_text("# Page\n\n[nowhere](nowhere.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", tmp_path, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere" in done.stderr
