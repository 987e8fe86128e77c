"""How Sphinx builds the documentation: `make docs`. No page loads anything from a network, formulas included."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import fimp

project = "FIMP"
author = "the authors of FIMP"
release = version = fimp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["Thumbs.db", ".DS_Store"]

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"FIMP {release}"
html_static_path = ["_static"]
html_css_files = ["fimp.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style, pygments_dark_style = "tango", "monokai"

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80
napoleon_google_docstring = False
# Attributes of a class are listed once, in its docstring, and not again as members.
napoleon_use_ivar = True
napoleon_use_rtype = True
napoleon_custom_sections = ["Shapes"]

_LETTER = re.compile(r'<mi mathvariant="normal">(\w)</mi>')
_WORD = re.compile(rf"(?:{_LETTER.pattern}){{2,}}")
#: Commands as they are highlighted, and flags in them.
_COMMANDS = re.compile(r'<div class="highlight-bash.*?</pre>', re.DOTALL)
_FLAG = re.compile(r"(?<=[\s>])(--?[a-z][a-z-]*)")


def math(visitor: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers set by themselves: no script, no font, no network."""
    block = isinstance(node, nodes.math_block)
    latex = node.astext()
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    formula = convert(latex, display="block" if block else "inline")
    # A word is one identifier, not a row of letters.
    formula = _WORD.sub(lambda word: "<mi>" + _LETTER.sub(r"\1", word[0]) + "</mi>", formula)
    visitor.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def one_attribute_each(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give attributes that share a description a line each, as napoleon does with parameters.

    Sphinx would take all names but the last for a type.
    """
    out: list[str] = []
    names: list[str] = []
    said: list[str] = []
    for line in [*lines, ""]:
        if said and line.startswith(" "):
            said.append(line)
            continue
        for one in names:
            out += [f":ivar {one}: {said[0]}", *said[1:]]
        names, said = [], []
        if match := re.match(r":ivar (\w+(?:, \w+)+): ?(.*)$", line):
            names, said = match[1].split(", "), [match[2]]
        else:
            out.append(line)
    lines[:] = out


def unbroken_flags(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.Node | None) -> None:
    """Keep browsers from breaking lines between the two hyphens of a flag, where commands are wrapped."""
    if "body" in context:
        whole = r'<span class="flag">\1</span>'
        context["body"] = _COMMANDS.sub(lambda block: _FLAG.sub(whole, block[0]), context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above; Sphinx calls it."""
    # Behind napoleon, which comes at 500.
    app.connect("autodoc-process-docstring", one_attribute_each, priority=600)
    app.connect("html-page-context", unbroken_flags)
    app.add_html_math_renderer("mathml", (math, None), (math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_math_renderer = "mathml"
