"""Public names say what they take and what they raise, and refer to names that there are."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

import fimp

SOURCE = Path(fimp.__file__).parent
#: Modules whose names users meet. Of commands, the docstring is the help text; private modules are of no user.
FILES = sorted(
    path
    for path in SOURCE.rglob("*.py")
    if path.relative_to(SOURCE).parts[0] != "cli"
    and not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(SOURCE).parts)
)
#: Packages that ``fimp`` shows, and those with what it takes names from.
PACKAGES = [*(f"fimp.{name}" for name in fimp._MODULES), "fimp.estimators"]
#: Where a docstring sends its reader for what is missing.
ELSEWHERE = re.compile(r"\b(as in|as for|as under|see) (:|\*)|(arguments|parameters) (are|as)", re.IGNORECASE)


def public(name):
    return not name.startswith("_")


def raises(node):
    """Whether a function, or one within it, raises FIMPError by name."""
    for one in ast.walk(node):
        if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call):
            called = one.exc.func
            if getattr(called, "id", getattr(called, "attr", None)) == "FIMPError":
                return True
    return False


def callables(tree):
    """Public functions, classes and methods of a module: name, docstring, and whether calling it raises FIMPError."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        if isinstance(node, functions) and public(node.name):
            yield node.name, ast.get_docstring(node), raises(node)
        if isinstance(node, ast.ClassDef) and public(node.name):
            methods = [one for one in node.body if isinstance(one, functions)]
            making = [one for one in methods if one.name in ("__init__", "__post_init__", "__new__")]
            yield node.name, ast.get_docstring(node), any(raises(one) for one in making)
            for one in methods:
                # Of an overload, the implementation is documented.
                if public(one.name) and not any(ast.unparse(mark) == "overload" for mark in one.decorator_list):
                    yield f"{node.name}.{one.name}", ast.get_docstring(one), raises(one)


def told(docstring):
    """Whether a docstring says that, and when, FIMPError is raised."""
    section = re.search(r"^Raises\n------\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return "FIMPError" in (section[1] if section else "") or bool(
        re.search(r"\bRaises? (an? )?:class:`FIMPError`", docstring)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_everything_public_is_documented_with_what_it_raises(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    found = list(callables(tree))
    assert [name for name, docstring, _ in found if not docstring] == []
    assert [name for name, docstring, fails in found if fails and not told(docstring or "")] == []


def exported():
    """Functions and classes that packages export, also by modules among their names: name and object."""
    out = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.ismodule(one):
                inner = [key for key, value in vars(one).items() if public(key) and _own(value, one)]
                out |= {f"{package}.{name}.{key}": getattr(one, key) for key in inner}
            else:
                out[f"{package}.{name}"] = one
    return {name: one for name, one in out.items() if inspect.isclass(one) or inspect.isfunction(one)}


def _own(value, module):
    """Whether something is defined in a module, or in one of the simulators that ``simulate`` puts together."""
    where = getattr(value, "__module__", None)
    return where == module.__name__ or (module.__name__.endswith(".simulate") and "simulated_" in str(where))


def undocumented(one):
    """Parameters that a docstring says nothing of."""
    docstring = inspect.getdoc(one) or ""
    if ELSEWHERE.search(docstring):
        return []
    if inspect.isclass(one) and not dataclasses.is_dataclass(one) and "__init__" not in vars(one):
        # Made by another class's constructor, which has the parameters.
        return []
    names = [name for name in inspect.signature(one).parameters if name not in ("self", "args", "kwargs")]
    return [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}\b", docstring)]


EXPORTED = exported()


@pytest.mark.parametrize("name", EXPORTED)
def test_parameters_of_what_is_exported_are_documented(name):
    assert inspect.getdoc(EXPORTED[name])
    assert undocumented(EXPORTED[name]) == []


def test_models_and_converters_name_their_source():
    from fimp.foundation import FoundationModel
    from fimp.models import Backbone

    published = [
        one for one in EXPORTED.values() if inspect.isclass(one) and issubclass(one, (Backbone, FoundationModel))
    ]
    # A perceptron, a line and a Gaussian are of no paper.
    plain = ("Backbone", "MLP", "Interpolation", "Gaussian")
    unsaid = {
        one.__name__ for one in published if not re.search(r"arXiv \d{4}\.\d{4}|doi 10\.", inspect.getdoc(one) or "")
    }
    assert unsaid <= set(plain)
    assert {"GCN", "FIMP", "ScGPT", "BrainLM"} <= {one.__name__ for one in published}


def test_names_that_docstrings_refer_to_exist():
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        for target in re.findall(r":(?:func|class|meth|mod|data|attr):`~?(fimp\.[\w.]+)`", path.read_text()):
            if not _exists(target):
                missing.append(f"{path.relative_to(SOURCE)}: {target}")
    assert missing == []


def _exists(target):
    parts = target.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            # Attributes of an instance are annotated at the class.
            if not hasattr(found, name) and name not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, name, None)
        return True
    return False


def test_the_walk_finds_what_it_should():
    assert {"fimp.ops.edge_attention", "fimp.data.simulate.tissue", "fimp.estimators.ExpressionModel"} <= set(EXPORTED)
    assert {"fimp.data.simulate.recordings", "fimp.foundation.vit.ViT"} <= set(EXPORTED)
    bad = (
        'def f():\n    "Nothing."\n    raise FIMPError()\nclass A:\n    def __init__(self):\n        raise FIMPError()'
    )
    assert [(name, fails, told(docstring or "")) for name, docstring, fails in callables(ast.parse(bad))] == [
        ("f", True, False),
        ("A", True, False),
    ]

    def one(size):
        """Takes something."""

    assert undocumented(one) == ["size"]
