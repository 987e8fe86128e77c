import torch

from fimp.tokenizers import GeneProfile


def test_values_seen_and_asked_stand_in_their_own_thirds():
    genes = torch.tensor([[2, 0, 3, 0]])
    values = torch.tensor([[5.0, 7.0, 9.0, 11.0]])
    mask = torch.tensor([[True, True, True, False]])
    hidden = torch.tensor([[False, True, False, False]])
    out = GeneProfile(4)(genes, values, mask, hidden).view(3, 4)
    assert out.tolist() == [[0, 0, 5, 9], [0, 0, 1, 1], [1, 0, 0, 0]]
