"""Reading pickles of plain data without running what is in them.

A pickle is a program. Of its instructions, only those that make dicts, lists, tuples, text, bytes and numbers are
followed; the ones with which numpy stores arrays and numbers are answered by stand-ins of this module, so that no
constructor of another library ever sees what the file says. Any other name stops the reading.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

#: Kinds of plain types: numbers, bytes and text.
_KINDS = "biufSU"


def read_pickle(path: Path) -> Any:
    """Read dicts, lists, tuples, text, bytes, numbers and numpy arrays of them from a pickle.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Any
        What it holds, with numpy's arrays and numbers where it has them.

    Raises
    ------
    FIMPError
        If the file cannot be read, or asks for anything else; nothing that it asks for is executed.
    """
    try:
        content = _Reader(io.BytesIO(path.read_bytes()), path).load()
        return _arrays(content)
    except FIMPError:
        raise
    # What a damaged pickle raises depends on the byte that is wrong.
    except Exception as error:
        found = " ".join(str(error).split())[:120] or type(error).__name__
        raise FIMPError(f"{path}: not readable as a pickle ({found}); fetch the file again") from error


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; an error for all that have none."""
        found = _STAND_INS.get((module, name))
        if found is None:
            raise FIMPError(
                f"{self.path}: this pickle asks for {module}.{name}, which could run code and was not loaded; wanted "
                "only dicts, lists, text, numbers and numpy arrays: convert it to .npz or .json where it comes from"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Refused: such references are resolved by programs that this is not."""
        raise pickle.UnpicklingError("it refers to objects outside the file")


class _StandIn:
    """What a name in a pickle becomes: it can be called, and nothing else."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: Any) -> None:
        # A pickle may set attributes of whatever it can name.
        raise pickle.UnpicklingError("it changes a function")


class _Dtype:
    """Stands in for ``numpy.dtype``: a plain type, in one of two byte orders."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.order, subarray, fields = state[:4]
        if subarray is not None or fields is not None:
            raise pickle.UnpicklingError("an array in it has fields, wanted plain numbers")

    def made(self) -> np.dtype[Any]:
        """The type, for the plain ones."""
        if self.code[:1] not in _KINDS or not self.code[1:].isdigit() or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"an array in it has type {self.code!r}, wanted plain numbers or text")
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array:
    """Stands in for ``numpy.ndarray`` until its content is known."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array in it is not stored as plain numbers")
    return np.frombuffer(data, dtype=dtype.made()).reshape(shape, order=order).copy()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> NDArray[Any]:
    return _array(data, dtype, shape, order)


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    # How the older protocols write bytes.
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return str(text).encode("latin-1")


def _named_only(*_: Any) -> Any:
    raise pickle.UnpicklingError("it makes an array in a way that numpy does not")


_STAND_INS = {
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("numpy", "ndarray"): _StandIn(_named_only),
    ("_codecs", "encode"): _StandIn(_encode),
    ("collections", "OrderedDict"): _StandIn(dict),
    # Without arguments: what the older protocols write for no bytes.
    ("__builtin__", "bytes"): _StandIn(lambda: b""),
    ("builtins", "bytes"): _StandIn(lambda: b""),
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[(f"{_core}.multiarray", "_reconstruct")] = _StandIn(_reconstruct)
    _STAND_INS[(f"{_core}.multiarray", "scalar")] = _StandIn(_scalar)
    _STAND_INS[(f"{_core}.numeric", "_frombuffer")] = _StandIn(_frombuffer)


def _arrays(node: Any) -> Any:
    """The same structure with arrays in place of their stand-ins."""
    if isinstance(node, _Array):
        if node.value is None:
            raise pickle.UnpicklingError("an array in it has no content")
        return node.value
    if isinstance(node, dict):
        return {_arrays(key): _arrays(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_arrays(item) for item in node)
    if isinstance(node, (_Dtype, _StandIn)):
        raise pickle.UnpicklingError("it holds a type instead of a value")
    return node
