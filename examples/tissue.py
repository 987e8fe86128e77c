# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Cells that hear their neighbours
#
# A spatial transcriptomics dataset is a graph: cells are nodes, neighbouring cells are joined. FIMP keeps every cell
# as a sequence of gene tokens, and a message between two cells is attention from the genes of one to the genes of the
# other. This notebook trains such a model, asks what the graph is worth, puts the results into the AnnData object,
# classifies cell types, and reads which gene listens to which.
#
# Without a file it runs on a simulated tissue, in which receptor genes follow the ligand genes of neighbouring cells.
# Set `FILE` to an `.h5ad` of your own: counts in `X`, coordinates in `obsm["spatial"]`, cell types in a column of
# `obs`.

# %%
FILE = None  # "my_tissue.h5ad"
LABEL = "cell_type"
CELLS = 800  # of the simulated tissue
EPOCHS = 20

# %%
import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import fimp
from fimp.analysis import EdgeChoice, gene_attention, token_attention

# %%
if FILE is None:
    adata = fimp.data.simulate.tissue(n_cells=CELLS, n_genes=16, n_pairs=3, strength=1.5)
else:
    adata = anndata.read_h5ad(FILE)
adata


# %%
def draw(*columns, basis="spatial"):
    """Draw columns of obs side by side; with scanpy: sc.pl.embedding(adata, basis=basis, color=columns)."""
    figure, axes = plt.subplots(1, len(columns), figsize=(4.6 * len(columns), 4.0), squeeze=False, layout="constrained")
    xy = adata.obsm[basis][:, :2]
    size = np.clip(16_000 / len(xy), 1.0, 30.0)
    for axis, column in zip(axes[0], columns, strict=True):
        values = adata.obs[column]
        if pd.api.types.is_numeric_dtype(values):
            axis.scatter(*xy.T, s=size, color="#e4e4e4", linewidth=0)
            figure.colorbar(axis.scatter(*xy.T, s=size, c=values, cmap="viridis", linewidth=0), ax=axis, shrink=0.7)
        else:
            for place, name in enumerate(pd.unique(values.dropna())):
                axis.scatter(
                    *xy[(values == name).to_numpy()].T, s=size, color=f"C{place % 10}", linewidth=0, label=name
                )
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, markerscale=1.5)
        axis.set_title(column, loc="left", fontsize=10)
        axis.set_axis_off()
        axis.set_aspect("equal" if basis == "spatial" else "auto")
    plt.show()


draw(LABEL)

# %% [markdown]
# ## Predict hidden genes
#
# Four fifths of the expressed genes of a cell are hidden and predicted from the rest, and from the cells around it.
# Three models see the same cells, masks and splits: `mlp` knows the cell alone, `gcn` averages its neighbours, and
# `fimp-base` attends to their genes. Counts are scaled to the median total and log-transformed, unless they are no
# counts.

# %%
models = {}
for name in ("mlp", "gcn", "fimp-base"):
    models[name] = fimp.ExpressionModel(adata, model=name, dim=64, batch_size=64, seed=0).fit(max_epochs=EPOCHS)
    print(models[name])

scores = pd.DataFrame({name: model.evaluate() for name, model in models.items()}).T
scores.round(3)

# %% [markdown]
# `r2` is over all hidden values of test cells; `r2_gene` takes off the mean of each gene first, so that knowing which
# genes are high in general counts for nothing. What `mlp` lacks is what only neighbours tell.
#
# What was decided while reading the data is noted:

# %%
model = models["fimp-base"]
model.notes

# %% [markdown]
# ## Results in the AnnData object
#
# `predict` gives every gene in every cell, each from the others: a gene's own value is never shown when it is
# predicted. A model that was trained on expressed genes says how high a gene is *given that the cell expresses it*, so
# zeros are left out of what follows. Which genes do neighbours tell most about? Those that `fimp-base` knows and `mlp`
# does not, in test cells:

# %%
genes = model.data.gene_names
adata.layers["fimp_expression"] = np.full(adata.shape, np.nan, dtype=np.float32)
adata.layers["fimp_expression"][:, adata.var_names.get_indexer(genes)] = model.predict()
adata.obsm["X_fimp"] = model.embed()

measured = pd.DataFrame(model.data.x.to_dense().numpy(), index=adata.obs_names, columns=genes).replace(0.0, np.nan)
test = measured.iloc[model.task.split["test"]]
agreement = pd.DataFrame(
    {
        name: test.corrwith(pd.DataFrame(one.predict(), index=adata.obs_names, columns=genes).loc[test.index])
        for name, one in models.items()
    }
)
agreement["gain"] = agreement["fimp-base"] - agreement["mlp"]
agreement.sort_values("gain", ascending=False).head(6).round(2)

# %% [markdown]
# Predictions vary less than what was measured, so the colour scales differ.

# %%
gene = agreement["gain"].idxmax()
adata.obs[f"{gene}, measured"] = measured[gene]
adata.obs[f"{gene}, predicted"] = adata.obs_vector(gene, layer="fimp_expression")
adata.obs.loc[measured[gene].isna(), f"{gene}, predicted"] = np.nan
draw(f"{gene}, measured", f"{gene}, predicted")

# %% [markdown]
# One vector per cell is in `obsm["X_fimp"]`, where scanpy finds it: `sc.pp.neighbors(adata, use_rep="X_fimp")`, then
# `sc.tl.leiden` or `sc.tl.umap`. Its first two principal components:

# %%
centred = adata.obsm["X_fimp"] - adata.obsm["X_fimp"].mean(axis=0)
adata.obsm["X_fimp_pca"] = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
draw(LABEL, basis="X_fimp_pca")

# %% [markdown]
# ## Which gene listens to which
#
# `gene_attention` averages the attention between genes over all edges. Some genes are looked at by every other;
# `specific` takes off what a row and a column explain by themselves, and pairs are ranked by it.

# %%
attention = gene_attention(model, draws=2)
attention.ranked().head(8)

# %%
shown = list(dict.fromkeys(attention.ranked()["receiver"]))[:20]
places = [attention.rows.index(name) for name in shown]
specific = np.where(attention.same, np.nan, attention.specific())[np.ix_(places, places)]
limit = np.nanmax(np.abs(specific))
figure, axis = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
drawn = axis.imshow(specific, cmap="RdBu_r", vmin=-limit, vmax=limit)
axis.set_xticks(range(len(shown)), shown, rotation=90)
axis.set_yticks(range(len(shown)), shown)
axis.set_xlabel("gene of the neighbour (sender)")
axis.set_ylabel("hidden gene (receiver)")
figure.colorbar(drawn, label="specific attention")
plt.show()

# %% [markdown]
# In the simulated tissue the truth is known. Precision at k is the share of planted pairs among the k that lead,
# where k is their number; in either direction, since a receptor tells of the ligands around it as they tell of the
# receptor.

# %%
if "planted_pairs" in adata.uns:
    receptors, ligands = (list(adata.uns["planted_pairs"][key]) for key in ("receptor", "ligand"))
    k, everything = len(receptors), len(attention.order())
    print(f"AUROC {attention.auroc(receptors, ligands):.2f}, by chance 0.50")
    either = attention.precision_at(2 * k, receptors + ligands, ligands + receptors)
    print(f"precision at {2 * k} in either direction {either:.2f}, by chance {2 * k / everything:.2f}")

# %% [markdown]
# The same of edges between cells of two types, or of cells to themselves, is a choice of edges:

# %%
types = adata.obs[LABEL].astype(str).to_numpy()
sender, receiver = pd.unique(types)[:2]
between = EdgeChoice("neighbors", senders=types == sender, receivers=types == receiver)
print(f"from {sender} to {receiver}")
token_attention(model, between, draws=2).ranked().head(5)

# %% [markdown]
# ## Cell types
#
# Labels may be missing: here a fifth of them is taken away. Cells without one still send messages, and get a
# prediction.

# %%
partly = adata.copy()
hidden = np.random.default_rng(0).random(adata.n_obs) < 0.2
partly.obs[LABEL] = partly.obs[LABEL].astype("category").where(~hidden)
classifier = fimp.CellTypeModel(partly, label=LABEL, dim=32, batch_size=64).fit(max_epochs=max(1, EPOCHS // 4))
adata.obs["fimp_prediction"] = pd.Categorical(classifier.predict())
adata.obs["fimp_confidence"] = classifier.predict_proba().max(axis=1)
right = (adata.obs["fimp_prediction"].astype(str) == adata.obs[LABEL].astype(str))[hidden].mean()
print(f"right about {right:.0%} of the labels that were taken away")

# %%
draw("fimp_prediction", "fimp_confidence")

# %% [markdown]
# ## Keep the model, and use it on other cells
#
# `save` writes a folder with the configuration and the weights (safetensors, no pickle). Other cells need the same
# genes by name; those that the model does not know are left out.

# %%
model.save("tissue_model")
loaded = fimp.load("tissue_model", adata[: adata.n_obs // 2].copy())
loaded.predict().shape

# %% [markdown]
# On the command line the same is `fimp compare expression --data FILE.h5ad --models mlp,gcn,fimp-base --seeds 3`,
# with tests of whether differences are more than noise; then `fimp attention RUN --out DIR` and `fimp report RUN`.
