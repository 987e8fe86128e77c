import torch

from fimp.nn import mean_tokens


def test_only_real_tokens_count():
    h = torch.tensor([[[1.0], [3.0], [float("nan")]], [[5.0], [5.0], [5.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_tokens(h, mask).tolist() == [[2.0], [0.0]]
