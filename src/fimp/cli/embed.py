"""``fimp embed``: what a trained model makes of cells, images, recordings or nodes, written into a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fimp.errors import FIMPError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from fimp.estimators import CellModel, ImageModel, NodeModel, RecordingModel


def embed(
    run: Annotated[Path, typer.Argument(help="A run folder, DIR/runs/MODEL/seedK.")],
    data: Annotated[
        str,
        typer.Option(
            help="What such a run reads: an .h5ad file or .zarr store, a table or folder of images, a folder of "
            "recordings, a graph, or a name."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="File to write: .h5ad, .zarr if it is cells, .npz if not; it must not exist.")
    ],
) -> None:
    """Embed cells, images, recordings or nodes with a trained model; labels are not needed.

    Of cells, writes a copy of the file with obsm["X_fimp"] added and, for a model of cell types,
    obs["fimp_prediction"]. Of images and nodes, writes an AnnData with these two, or an .npz file with arrays
    embedding, prediction and, of images, path. Of recordings, a row is a region during a window: the AnnData has
    obsm["X_fimp"] and, as obs, recording, subject, start (its first volume) and region; the .npz file has embedding
    [windows, regions, width], recording, subject and start of each window, and region.
    """
    from fimp.data.annotated import check_annotated
    from fimp.estimators import CellModel, ImageModel, NodeModel, RecordingModel, estimator_of, load

    cells = issubclass(estimator_of(run), CellModel)
    endings = (".h5ad", ".zarr") if cells else (".h5ad", ".npz")
    if out.suffix not in endings:
        raise FIMPError(f"--out: {out} does not end in {' or '.join(endings)}; name such a file")
    if out.exists():
        raise FIMPError(f"--out: {out} exists; name a new file or remove it")
    if not out.parent.is_dir():
        raise FIMPError(f"--out: {out.parent} is no folder; make it first")
    if cells:
        check_annotated(data, out)
    model = load(run, data)
    if isinstance(model, ImageModel):
        said = embed_images(model, data, out)
    elif isinstance(model, RecordingModel):
        said = embed_recordings(model, out)
    elif isinstance(model, NodeModel):
        said = embed_nodes(model, out)
    else:
        assert isinstance(model, CellModel)
        said = embed_cells(model, data, out)
    for note in model.notes:
        typer.echo(f"  {note}")
    typer.echo(f"{out}: {said}")


def embed_cells(model: CellModel, data: str, out: Path) -> str:
    """Write an AnnData with the model's embedding, and its prediction of cell types; says what was written."""
    import pandas as pd

    from fimp.data.annotated import write_annotated
    from fimp.estimators import CellTypeModel

    obsm, obs, added = {"X_fimp": model.embed()}, {}, ['obsm["X_fimp"]']
    if isinstance(model, CellTypeModel):
        obs["fimp_prediction"] = pd.Categorical(model.predict(), categories=model.classes)
        added.append('obs["fimp_prediction"]')
    write_whole(out, lambda path: write_annotated(data, path, obsm, obs))
    return f"{model.data.num_nodes:,} cells; added {' and '.join(added)}"


def embed_images(model: ImageModel, data: str, out: Path) -> str:
    """Write embedding and prediction of images, with where they are and the graph they are in; says what was written.

    Paths are as a table lists them: relative to it.
    """
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from fimp.data.simulated_images import path_of

    graph, source = model.data, path_of(data)
    folder = source if source.is_dir() else source.parent
    paths = [str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in graph.paths]
    embedding, prediction = model.embed(), model.predict()
    if out.suffix == ".npz":
        write_arrays(out, embedding=embedding, prediction=prediction, path=np.array(paths))
        return f"{len(paths):,} images; arrays embedding, prediction and path"
    obs = pd.DataFrame({"path": paths, "latitude": graph.latitude.numpy(), "longitude": graph.longitude.numpy()})
    labels = graph.y.numpy()
    if (labels >= 0).any():
        obs["label"] = pd.Categorical.from_codes(labels, categories=pd.Index(model.classes))
    obs["fimp_prediction"] = pd.Categorical(prediction, categories=model.classes)
    adata = _annotated(obs, embedding)
    sender, receiver = graph.edge_index.numpy()
    edges = sparse.coo_matrix((np.ones(len(sender), np.float32), (receiver, sender)), shape=(len(obs), len(obs)))
    adata.obsp["spatial_connectivities"] = edges.tocsr()
    write_whole(out, adata.write_h5ad)
    return f'{len(paths):,} images; obsm["X_fimp"] and obs["fimp_prediction"]'


def embed_recordings(model: RecordingModel, out: Path) -> str:
    """Write the embedding of every region in every window, and which they are; says what was written."""
    import numpy as np
    import pandas as pd

    embedding, places, recordings = model.embed(), model.task.windows.places, model.task.recordings
    names = np.array([Path(item.name).name for item in recordings.recordings])[places.recording]
    subjects = np.array([item.subject for item in recordings.recordings])[places.recording]
    regions, size = np.array(recordings.regions.names), len(recordings.regions)
    said = f"{len(names):,} windows of {len(recordings.recordings):,} recordings, {size:,} regions"
    if out.suffix == ".npz":
        write_arrays(out, embedding=embedding, recording=names, subject=subjects, start=places.start, region=regions)
        return f"{said}; arrays embedding, recording, subject, start and region"
    columns = {"recording": names, "subject": subjects, "start": places.start}
    obs = pd.DataFrame({name: column.repeat(size) for name, column in columns.items()})
    obs["region"] = np.tile(regions, len(names))
    adata = _annotated(obs, embedding.reshape(len(obs), -1))
    write_whole(out, adata.write_h5ad)
    return f'{said}; obsm["X_fimp"]'


def embed_nodes(model: NodeModel, out: Path) -> str:
    """Write embedding and prediction of the nodes of a graph; says what was written."""
    import pandas as pd

    embedding, prediction = model.embed(), model.predict()
    if out.suffix == ".npz":
        write_arrays(out, embedding=embedding, prediction=prediction)
        return f"{len(embedding):,} nodes; arrays embedding and prediction"
    adata = _annotated(pd.DataFrame({"fimp_prediction": prediction}), embedding)
    write_whole(out, adata.write_h5ad)
    return f'{len(embedding):,} nodes; obsm["X_fimp"] and obs["fimp_prediction"]'


def _annotated(obs: pd.DataFrame, embedding: NDArray[np.float32]) -> AnnData:
    import anndata

    obs.index = obs.index.astype(str)
    return anndata.AnnData(obs=obs, obsm={"X_fimp": embedding})


def write_arrays(out: Path, **arrays: NDArray) -> None:
    """Write an .npz file whole or not at all."""
    import numpy as np

    def write(path: Path) -> None:
        with path.open("wb") as stream:  # by its name alone numpy would append .npz to it
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # a flag in numpy's own types

    write_whole(out, write)


def write_whole(out: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a file, or a folder, whole or not at all."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
    try:
        write(temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise FIMPError(f"--out: {out} cannot be written ({error}); name another place") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
