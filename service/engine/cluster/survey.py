"""Ask every node of the cluster what it has: `python -m service.engine.cluster.survey`, for `vllm-wsgi check`.

In: a SurveyRequest on stdin. Out: a ClusterSurvey as the last line of stdout, or the reason as the last one of stderr,
and exit status 1. It is a program of its own because Ray tries some things without end: `survey` kills it in time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...errors import ServiceError, Unavailable
from ...protocol.model_info import ClusterNode
from ...version import module
from .node_facts import NodeFacts, NodeNeeds, node_facts
from .ray_cluster import RayCluster

# How long the nodes may take together. Ray starts a process on each, which imports our package.
NODES_SECONDS = 60.0
# How long all of it may take, with Ray's own start.
SURVEY_SECONDS = 120.0
# Engine hosts have namespaces of their own.
NAMESPACE = "vllm-wsgi-check"


class SurveyRequest(msgspec.Struct, frozen=True):
    """The address of the cluster, and what each node is asked for."""

    cluster: str
    needs: NodeNeeds


class SurveyedNode(msgspec.Struct, frozen=True):
    """A node that is alive. Without `facts`, `trouble` says why there are none."""

    node: ClusterNode
    facts: NodeFacts | None = None
    trouble: str = ""


class ClusterSurvey(msgspec.Struct, frozen=True):
    """Every node that is alive."""

    nodes: list[SurveyedNode]


def survey(request: SurveyRequest, seconds: float = SURVEY_SECONDS, program: Sequence[str] = ()) -> ClusterSurvey:
    """Return what the nodes have. Raises Unavailable where the cluster can't be asked within `seconds`."""
    command = program or [sys.executable, "-m", module("engine.cluster.survey")]
    # Where our package is: the nodes look for it in the same place.
    home = Path(__file__).resolve().parents[3]
    try:
        ended = subprocess.run(
            command, input=msgspec.json.encode(request), capture_output=True, timeout=seconds, cwd=home
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the cluster {request.cluster} does not answer within {seconds:g} seconds") from None
    if ended.returncode:
        raise Unavailable(_last_line(ended.stderr) or f"the survey ended with status {ended.returncode}")
    try:
        return msgspec.json.decode(_last_line(ended.stdout), type=ClusterSurvey)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the survey's answer can't be read: {error}") from None


def surveyed(cluster: RayCluster, needs: NodeNeeds, seconds: float = NODES_SECONDS) -> ClusterSurvey:
    """Return what the nodes of a cluster have that was joined. Raises Unavailable."""
    nodes = cluster.nodes()
    answers = cluster.run_on([node.id for node in nodes], node_facts, msgspec.msgpack.encode(needs), seconds)
    return ClusterSurvey([_surveyed_node(node, answers[node.id]) for node in nodes])


def _surveyed_node(node: ClusterNode, answer: bytes | Unavailable) -> SurveyedNode:
    if isinstance(answer, Unavailable):
        return SurveyedNode(node, None, answer.message)
    try:
        return SurveyedNode(node, msgspec.msgpack.decode(answer, type=NodeFacts))
    except msgspec.MsgspecError as error:
        return SurveyedNode(node, None, f"its answer can't be read, its version of vllm-wsgi may be another: {error}")


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def main() -> None:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=SurveyRequest)
    try:
        cluster = RayCluster(request.cluster, NAMESPACE)
        cluster.connect(shows_output=False)
        found = surveyed(cluster, request.needs)
    except ServiceError as error:
        sys.exit(error.message)
    # Ray writes to stdout, too, so this line is the last one.
    print(f"\n{msgspec.json.encode(found).decode()}", flush=True)
    cluster.leave()


if __name__ == "__main__":
    main()
