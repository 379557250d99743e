"""The rows of `vllm-wsgi check` about a Ray cluster: what its nodes have and lack, against what models.toml wants.

In: settings with VLLM_WSGI_CLUSTER, and a ClusterSurvey. Out: Findings. It runs on the engine host's machine.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..config import Settings
from ..engine.cluster.node_facts import NodeFacts, NodeNeeds
from ..engine.cluster.ray_cluster import Placement
from ..engine.cluster.survey import SurveyedNode, SurveyRequest, survey
from ..engine.cluster.workplace import check_models, needs_of
from ..errors import ServiceError
from ..models.declaration import declared_models
from ..models.library import store_directory
from ..models.model import GPU_PARTS, Model
from ..protocol.model_info import ClusterNode
from ..version import __version__
from .finding import Finding, validity

# Below this a busy engine worker may run out of connections.
OPEN_FILES = 1024


def cluster_findings(settings: Settings) -> Iterator[Finding]:
    """Yield the rows about the cluster. Its nodes are asked first: that takes some seconds, and two minutes at most."""
    try:
        models = declared_models(settings)
        check_models(models)
        surveyed = survey(SurveyRequest(settings.cluster, needs_of_nodes(settings, models))).nodes
    except ServiceError as error:
        yield Finding("cluster", False, error.message)
        return
    yield Finding("cluster", True, f"{settings.cluster}: {_counted(len(surveyed), 'node')}")
    for each in surveyed:
        yield from _node(settings, models, each)
    for model in models:
        yield _files(settings, model, surveyed)
    yield from gpu_findings(models, [each.node for each in surveyed])
    yield limits(settings, models, [each.node for each in surveyed])


def needs_of_nodes(settings: Settings, models: list[Model]) -> NodeNeeds:
    """Return what each node is asked for: the models' files, the store when clients have made models, certificates."""
    store = store_directory(settings.store).absolute()
    return NodeNeeds(
        [path for model in models for path in _paths(model)] + ([str(store)] if (store / "manifests").is_dir() else []),
        [model.source for model in models if not _is_local(model)],
        str(Path(settings.tls).absolute()) if settings.tls else "",
    )


def gpu_findings(models: list[Model], nodes: list[ClusterNode]) -> Iterator[Finding]:
    """Yield a row for all GPUs, and one for each model: whether the nodes have room for its replicas."""
    gpus, free = sum(node.gpus for node in nodes), sum(node.free_gpus for node in nodes)
    pinned = sum(model.gpus * model.replicas for model in models if model.pinned)
    wanted = sum(model.gpus * model.replicas for model in models)
    text = f"{gpus:g}, {free:g} of them free; pinned models take {pinned:g}, and all models {wanted:g}"
    yield Finding("GPUs", _parts(pinned) <= _parts(gpus), text)
    for model in models:
        room = room_for(model, nodes)
        has = f"{_counted(model.replicas, 'replica')} with {_counted(model.gpus, 'GPU')} each"
        yield Finding(f"room for {model.name.short}", room >= model.replicas, f"{has}; the nodes have room for {room}")


def room_for(model: Model, nodes: list[ClusterNode]) -> int:
    """Return how many replicas of the model the nodes could run, if they ran nothing else."""
    needs = needs_of(model)
    if needs == Placement(0, 0):
        # vLLM takes the GPUs of one replica from several nodes.
        return _parts(sum(node.gpus for node in nodes)) // _parts(model.gpus) if model.gpus else model.replicas
    return sum(_room_on(node, needs) for node in nodes)


def limits(settings: Settings, models: list[Model], nodes: list[ClusterNode]) -> Finding:
    """Whether the ports suffice for the workers that one node may run, and what holds for each engine worker alone."""
    first, last = settings.engine_ports
    ports, workers = last - first + 1, max((_most_workers(models, node) for node in nodes), default=0)
    if first and ports < workers:
        text = f"VLLM_WSGI_ENGINE_PORTS has {_counted(ports, 'port')}, and a node may run {workers} engine workers"
        return Finding("limits", False, text)
    most = max(model.replicas for model in models)
    texts = [f"{_counted(ports, 'port')} for up to {workers} engine workers on a node" if first else "any free ports"]
    if most > 1:
        texts.append(f"queues and the limits of keys hold for each replica: up to {most} times as much for a model")
    if settings.max_memory:
        texts.append("VLLM_WSGI_MAX_MEMORY counts the memory of all nodes together")
    return Finding("limits", True, "; ".join(texts))


def _node(settings: Settings, models: list[Model], surveyed: SurveyedNode) -> Iterator[Finding]:
    """Yield a row for what a node has, and one for each thing that keeps it from serving."""
    node, facts = surveyed.node, surveyed.facts
    what = f"node {node.address}"
    has = f"{node.name}: {_counted(node.gpus, 'GPU')}, {node.free_gpus:g} of them free; {_counted(node.cpus, 'CPU')}"
    if facts is None:
        yield Finding(what, False, f"{has}; {surveyed.trouble}")
        return
    troubles = [*_other_versions(facts)]
    if any(_can_run(node, model) for model in models):
        troubles += _troubles_of_workers(settings, models, facts)
        has += f"; certificate: {validity(facts.expires_at)}" if facts.expires_at is not None else ""
    versions = ", ".join(filter(None, [f"Python {facts.python}", f"Ray {facts.ray}", facts.engine]))
    yield Finding(what, not troubles, f"{has}; {versions}; {facts.open_files} open files")
    for trouble in troubles:
        yield Finding(what, False, trouble)


def _other_versions(facts: NodeFacts) -> Iterator[str]:
    ours = {"Python": platform.python_version(), "Ray": _installed("ray"), "vllm-wsgi": __version__}
    for name, found in {"Python": facts.python, "Ray": facts.ray, "vllm-wsgi": facts.package}.items():
        if found != ours[name]:
            yield f"{name} {found}, and {ours[name] or 'none'} on this machine: they must be the same"


def _troubles_of_workers(settings: Settings, models: list[Model], facts: NodeFacts) -> Iterator[str]:
    """Yield what keeps engine workers from serving on a node that may run some."""
    if settings.engine == "vllm" and not facts.engine:
        yield "vLLM is not installed: pip install 'vllm-wsgi[engine]'"
    if facts.certificate_trouble:
        yield facts.certificate_trouble
    if facts.open_files < OPEN_FILES:
        yield f"a process may open {facts.open_files} files, and an engine worker needs {OPEN_FILES}: LimitNOFILE"
    of_models = {path for model in models for path in _paths(model)}
    yield from (f"{path}, the store, is not there or can't be read" for path in facts.missing if path not in of_models)


def _files(settings: Settings, model: Model, surveyed: list[SurveyedNode]) -> Finding:
    """Whether the model's files are on each node that may run it."""
    what = f"files of {model.name.short}"
    hosts = [(each.node.address, each.facts) for each in surveyed if each.facts and _can_run(each.node, model)]
    if settings.engine == "scripted":
        return Finding(what, True, "the scripted engine needs none")
    if not hosts:
        return Finding(what, False, "no node can run it")
    if _is_local(model):
        lacking = [address for address, facts in hosts if {*facts.missing} & {*_paths(model)}]
        place = ", ".join(_paths(model))
        on = f"on {_counted(len(hosts), 'node')}" if not lacking else f"not on {', '.join(lacking)}"
        return Finding(what, not lacking, f"{place}: {on}")
    lacking = [address for address, facts in hosts if model.source in facts.not_cached]
    later = f"; it is downloaded when it loads on {', '.join(lacking)}" if lacking else ""
    cached = _counted(len(hosts) - len(lacking), "node")
    return Finding(what, True, f"{model.source} of the hub: in the cache of {cached}{later}")


def _paths(model: Model) -> list[str]:
    """Return the paths of the model's files, which must be the same on each node."""
    local = [model.source] if _is_local(model) else []
    return [str(Path(path).absolute()) for path in [*local, *filter(None, [model.template])]]


def _is_local(model: Model) -> bool:
    return Path(model.source).is_dir()


def _can_run(node: ClusterNode, model: Model) -> bool:
    needs = needs_of(model)
    return node.gpus > 0 if needs == Placement(0, 0) else _room_on(node, needs) > 0


def _room_on(node: ClusterNode, needs: Placement) -> int:
    """Return how many engine workers with these needs a node could run."""
    if needs.gpus:
        return _parts(node.gpus) // _parts(needs.gpus)
    return _parts(node.cpus) // _parts(needs.cpus)


def _most_workers(models: list[Model], node: ClusterNode) -> int:
    """Return how many engine workers of all models a node may run at once: those that need least come first."""
    gpus, cpus, workers = _parts(node.gpus), _parts(node.cpus), 0
    for needs in sorted(needs_of(model) for model in models for _ in range(model.replicas)):
        if _parts(needs.gpus) <= gpus and _parts(needs.cpus) <= cpus:
            gpus, cpus, workers = gpus - _parts(needs.gpus), cpus - _parts(needs.cpus), workers + 1
    return workers


def _parts(number: float) -> int:
    return round(number * GPU_PARTS)


def _counted(number: float, name: str) -> str:
    return f"{number:g} {name}{'' if number == 1 else 's'}"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
