import pytest
import torch

from fimp.data import load_cells, simulate
from fimp.data.cells import CellOptions
from fimp.errors import FIMPError
from fimp.foundation.scgpt_files import new_scgpt, save_scgpt
from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae
from fimp.models import resolve
from fimp.models.foundation import load_mapped
from fimp.tasks import ExpressionTask
from fimp.tasks.cells import read_cells


@pytest.fixture(scope="module")
def adata():
    return simulate.tissue(n_cells=60, n_genes=18, n_pairs=4)


def folder(tmp_path, genes):
    save_scgpt(new_scgpt(genes, dim=8, layers=1, heads=2, hidden=8), tmp_path / "model")
    return str(tmp_path / "model")


def test_only_genes_that_the_model_knows_are_read(adata, tmp_path):
    names = list(adata.var_names)
    options = CellOptions(vocabulary=folder(tmp_path, [names[7], names[2].lower(), "other"]))
    data, whole = read_cells(adata, options), load_cells(adata)
    assert data.gene_names == [names[2], names[7]]
    # The total that counts are scaled to is that of all genes.
    assert (data.x.to_dense() == whole.x.to_dense()[:, [2, 7]]).all()
    assert any("the model knows 2 of 18" in note for note in data.notes)


def test_the_most_variable_are_chosen_among_them(adata, tmp_path):
    known = list(adata.var_names)[:6]
    data = read_cells(adata, CellOptions(vocabulary=folder(tmp_path, known), genes=3))
    assert set(data.gene_names) < set(known)
    assert any("3 most variable of 6" in note for note in data.notes)


def test_a_model_that_knows_none_of_the_genes_is_refused(adata, tmp_path):
    with pytest.raises(FIMPError, match="none of the 18 genes"):
        read_cells(adata, CellOptions(vocabulary=folder(tmp_path, ["x", "y"])))
    with pytest.raises(FIMPError, match="does not exist"):
        read_cells(adata, CellOptions(vocabulary=str(tmp_path / "nothing")))


def test_a_mapping_renames_genes_for_the_model(adata, tmp_path):
    names = list(adata.var_names)
    model = folder(tmp_path, ["ENSG3", "ENSG5", "other"])
    mapping = tmp_path / "names.csv"
    mapping.write_text(f"from,to\n{names[3]},ENSG3\n{names[5]},ENSG5\n")
    data = read_cells(adata, CellOptions(vocabulary=f"{model},mapping={mapping}"))
    assert data.gene_names == [names[3], names[5]]
    assert any("2 by the mapping" in note for note in data.notes)
    with pytest.raises(FIMPError, match="is no option; wanted FOLDER, or FOLDER,mapping=FILE"):
        read_cells(adata, CellOptions(vocabulary=f"{model},names={mapping}"))
    choice = resolve(f"fimp:{model},mapping={mapping}")
    network = ExpressionTask(data, seed=0).network(choice)
    assert "knows 2 of 2 (0 by name, 2 by the mapping)" in network.notes[0]
    before = choice.files
    assert choice.at(before).files == before
    mapping.write_text(f"from,to\n{names[3]},ENSG5\n{names[5]},ENSG3\n")
    assert choice.files != before


def test_a_mapping_needs_a_model_that_knows_genes(tmp_path):
    torch.manual_seed(0)
    save_vit_mae(new_vit_mae(16, 8, dim=8, layers=1, heads=2, hidden=8, decoder_dim=8), tmp_path / "vit")
    with pytest.raises(FIMPError, match="knows no genes; leave it out"):
        load_mapped(str(tmp_path / "vit"), "names.csv")
