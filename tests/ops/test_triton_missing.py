import sys

import pytest
import torch

from fimp.errors import FIMPError
from fimp.ops import edge_attention


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fimp.ops._triton_kernels", raising=False)
    monkeypatch.delattr("fimp.ops._triton_kernels", raising=False)
    query, edge_index = torch.zeros(2, 1, 3, 4), torch.tensor([[0], [1]])
    with pytest.raises(FIMPError, match=r"needs the package triton.*pip install 'fimp\[triton\]'"):
        edge_attention(query, query, query, edge_index, backend="triton")
    assert edge_attention(query, query, query, edge_index).shape == query.shape
