"""Commands and Python in README and docs run as they are printed, on small stand-ins and with the smallest settings."""

import argparse
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import torch.distributed
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: What is replaced so that commands are quick; everything else runs as it is printed.
VALUES = {
    "--epochs": "1",
    "--seeds": "1",
    "--trials": "2",
    "--fraction": "0.5",
    "--outside": "0.5",
    "--image-size": "48",
    "--patch-size": "16",
    "--dim": "32",
    "--layers": "1",
    "--hidden": "64",
}
#: Data that is large or has to be downloaded, by what stands for it.
DATA = {
    "simulated_images": "IMAGES",
    "simulated_recordings": "OTHERS",
    "slideseqv2": "FILE.h5ad",
    "visium_heart": "FILE.h5ad",
    "seqfish": "FILE.h5ad",
}
#: What is added to a command that does not say it.
ADDED = {
    "compare": {"--epochs": "1", "--seeds": "1", "--jobs": "1"},
    "tune": {"--epochs": "1", "--jobs": "1"},
    "pretrain": {"--epochs": "1"},
    "attention": {"--draws": "1", "--permutations": "99"},
    "demo": {"--max-minutes": "0.1"},
}
#: The same for Python.
PYTHON = {"max_epochs=50": "max_epochs=1", ").fit()": ").fit(max_epochs=1)", "n_cells=600": "n_cells=120"}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page):
    """Fenced blocks of a page, and lines that look like commands outside of them."""
    found, strays, fence = [], [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if match := re.match(r"(```+|:::+)(.*)$", line):
            if fence is None:
                fence = (match[1], match[2].strip(), number, [])
            elif line.strip() == fence[0]:
                found.append(Block(fence[1], "\n".join(fence[3]) + "\n", fence[2]))
                fence = None
        elif fence is not None:
            fence[3].append(line)
        elif re.match(r"( {4}|\t)\s*(\$ )?(fimp|pip|python|make|torchrun|>>>|import|from) ?", line):
            strays.append(f"{page.name}:{number}: {line}")
    assert fence is None, f"{page.name}:{fence[2]}: the fence is not closed"
    return found, strays


def commands(text):
    """Commands of a block as lists of words, comments left out, lines that end in a backslash joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def smallest(words, fresh):
    """A ``fimp`` command with the smallest settings; DIR is a new folder every time."""
    out, added = [], dict(ADDED.get(words[0], {}))
    for before, word in zip(["", *words], words, strict=False):
        added.pop(word, None)
        word = DATA.get(word, word) if before == "--data" else VALUES.get(before, word)
        out.append(fresh if word == "DIR" else word.removeprefix("/shared/"))
    return [*out, *(part for pair in added.items() for part in pair)]


def check_make(words):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words
    assert set(words) <= set(targets), f"no such target: {words}"


def check_pip(words):
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[1:]:
        match = re.fullmatch(r"\.|fimp(?:\[([a-z,]+)\])?", word)
        assert match, f"pip install {word}: neither fimp nor this folder"
        assert set((match[1] or "").split(",")) - {""} <= set(extras)


def check_benchmark(words, monkeypatch):
    """The script is there and takes these arguments; what it measures takes minutes."""
    path = ROOT / words[0]
    assert path.parent.name == "benchmarks"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)

    class Parsed(Exception):
        pass

    parse = argparse.ArgumentParser.parse_args

    def stop(parser, *arguments, **others):
        parse(parser, *arguments, **others)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *words[1:]])
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        # As where a script is started: files beside it can be imported.
        patch.syspath_prepend(path.parent)
        patch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        with pytest.raises(Parsed):
            module.main()


def of_torchrun(words):
    """Arguments of ``fimp`` behind torchrun's own, which its parser takes, for a process that is alone."""
    known = get_args_parser().parse_args(words)
    assert known.module
    assert known.training_script == "fimp"
    return [word for word in known.training_script_args if word != "--shard"]


def run_command(words, run_cli, monkeypatch, fresh):
    program, *rest = words
    if program == "make":
        return check_make(rest)
    if program == "pip":
        return check_pip(rest)
    if program == "python":
        return check_benchmark(rest, monkeypatch)
    if program == "torchrun":
        # Two processes that train one model are tested in tests/train; here the command alone.
        program, rest = "fimp", of_torchrun(rest)
    assert program == "fimp", f"{program}: no test knows how to run this"
    code, _, err = run_cli(*smallest(rest, fresh))
    assert code == 0, err
    return None


def run_python(text, names, monkeypatch, title):
    for long, short in PYTHON.items():
        text = text.replace(long, short)
    with monkeypatch.context() as patch:
        if "processes.start()" in text:
            # What torchrun sets for a process that is alone.
            for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}.items():
                patch.setenv(name, str(value))
        try:
            exec(compile(text, title, "exec"), names)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


@pytest.fixture
def registries(monkeypatch):
    """Models and families that a page registers are gone with its test."""
    from fimp.foundation import FAMILIES
    from fimp.models import registry

    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


WITH_BLOCKS = [page for page in PAGES if any(block.language in ("bash", "python") for block in blocks(page)[0])]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_blocks_of_a_page_run_one_after_the_other(page, stand_ins, run_cli, tmp_path, monkeypatch, registries):
    shutil.copytree(stand_ins, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names, count = {}, 0
    for block in blocks(page)[0]:
        title = f"{page.name}:{block.line}"
        if block.language == "python":
            run_python(block.text, names, monkeypatch, title)
        elif block.language == "bash":
            for words in commands(block.text):
                count += 1
                try:
                    run_command(words, run_cli, monkeypatch, f"DIR{count}")
                except AssertionError as error:
                    raise AssertionError(f"{title}: {shlex.join(words)}\n{error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_escapes(page):
    found, strays = blocks(page)
    assert not strays, "code that is not in a fence is not run"
    for block in found:
        # What is printed is text; commands and code are not.
        assert block.language != "text" or not re.search(r"^(\$ )?(fimp|pip|python|make) ", block.text, re.MULTILINE)
        known = re.fullmatch(r"bash|python|text|\{[a-z-]+\}.*", block.language)
        assert known, f"{page.name}:{block.line}: {block.language}"


def test_an_unknown_command_fails(run_cli, monkeypatch):
    with pytest.raises(AssertionError, match="no test knows"):
        run_command(["sudo", "rm"], run_cli, monkeypatch, "DIR")
    with pytest.raises(AssertionError, match="no such target"):
        run_command(["make", "tea"], run_cli, monkeypatch, "DIR")
    with pytest.raises(AssertionError):
        run_command(["pip", "install", "fimp[tea]"], run_cli, monkeypatch, "DIR")
    with pytest.raises(AssertionError, match="No such option"):
        run_command(["fimp", "compare", "node", "--tea"], run_cli, monkeypatch, "DIR")


def test_settings_are_made_small_and_nothing_else_changes():
    words = commands("fimp compare image --data simulated_images \\\n  --epochs 60 --models a,b   # three minutes\n")
    assert words == [["fimp", "compare", "image", "--data", "simulated_images", "--epochs", "60", "--models", "a,b"]]
    assert smallest(words[0][1:], "DIR1") == [
        "compare", "image", "--data", "IMAGES", "--epochs", "1", "--models", "a,b", "--seeds", "1", "--jobs", "1"
    ]  # fmt: skip
