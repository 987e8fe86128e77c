"""The section on the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fimp.analysis.graph_picture import graph_picture
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Section, draw
from fimp.analysis.report.view import View


def data_section(run: FoundRun, view: View | None) -> Section:
    """What the data is, with a picture of its graph where it is at hand."""
    section = Section("data", "Data")
    section.facts += _facts(run, view)
    if view is not None:
        section.notes += view.model.task.data.notes
        section.parts.append(
            draw("graph", f"Graph of {view.model.nodes}: nodes and the edges between them", lambda: _graph(view))
        )
    elif run.results is not None:
        section.notes += run.results["data"]["notes"]
    return section


def data_name(run: FoundRun) -> str:
    """What the data is called: its file without folders, or what stands for it."""
    if run.results is not None:
        return Path(run.results["data"]["name"]).name
    source = run.config.source
    if source is None:
        return "data handed over in memory"
    return ", ".join(Path(one).name for one in ([source] if isinstance(source, str) else source))


def _facts(run: FoundRun, view: View | None) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = [("data", data_name(run))]
    if view is None:
        data: dict[str, Any] = run.results["data"] if run.results else {}
        names = {"n_nodes": "nodes", "n_edges": "edges", "n_features": "features per node"}
        return facts + [(said, f"{data[name]:,}") for name, said in names.items() if name in data]
    task = view.model.task
    nodes, edges = int(task.data.num_nodes), int(task.data.edge_index.size(1))
    facts += [("nodes", f"{nodes:,}"), ("edges", f"{edges:,}"), ("edges into a node, mean", f"{edges / nodes:.1f}")]
    facts.append(("features per node", f"{task.num_features:,}"))
    if view.class_names is not None:
        facts.append(("classes", f"{len(view.class_names):,}"))
    facts += [(f"{part} nodes, seed {task.seed}", f"{len(index):,}") for part, index in task.split.items()]
    return facts


def _graph(view: View) -> tuple[Figure, str]:
    labels, classes = view.coloured(view.layout.nodes) or (None, None)
    return graph_picture(view.layout, labels, classes)
