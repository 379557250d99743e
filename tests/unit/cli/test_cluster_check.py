"""What `vllm-wsgi check` says of a cluster that does not exist: the test makes the survey of its nodes."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from service import __version__
from service.cli import cluster_check
from service.cli.command import command
from service.engine.cluster.node_facts import NodeFacts
from service.engine.cluster.survey import ClusterSurvey, SurveyedNode, SurveyRequest
from service.errors import Unavailable
from service.protocol.model_info import ClusterNode

GOOD = NodeFacts(platform.python_version(), "2.60.0", __version__, "vllm 0.32.0", open_files=65536)
DAY_SECONDS = 86_400


class Check:
    """`vllm-wsgi check` with a models.toml and the nodes of a survey."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: list[SurveyedNode | Unavailable] = []
        self.asked: list[SurveyRequest] = []
        self.weights = directory / "weights"
        self.weights.mkdir()
        self._toml = directory / "models.toml"
        self.variables = {"VLLM_WSGI_STORE": str(directory / "store"), "VLLM_WSGI_ENGINE": "vllm"}
        self.models("")
        monkeypatch.setattr(cluster_check, "survey", self._survey)
        monkeypatch.setattr(cluster_check, "_installed", lambda name: "2.60.0")

    def models(self, fields: str) -> None:
        """One pinned model in models.toml, with these fields."""
        self._toml.write_text(f'[models.m]\nsource = "{self.weights}"\npinned = true\n{fields}\n')

    def node(self, gpus: float = 1, trouble: str = "", cpus: float = 8, **facts: Any) -> None:
        """Add a node, which is as it should be but for these facts."""
        number = len(self.nodes) + 1
        node = ClusterNode(id=str(number), address=f"10.0.0.{number}", name=f"gpu{number}", gpus=gpus, cpus=cpus)
        self.nodes.append(SurveyedNode(node, None if trouble else msgspec.structs.replace(GOOD, **facts), trouble))

    def run(self, what: str, **variables: str) -> list[str]:
        """Return the rows whose name begins with `what`, without padding. The exit status fits the rows."""
        toml = {"VLLM_WSGI_MODELS": str(self._toml), "VLLM_WSGI_CLUSTER": "10.0.0.10:6379"}
        result = CliRunner().invoke(command, ["check"], env=self.variables | toml | variables)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        lines = [" ".join(line.split()) for line in result.output.splitlines()]
        # vLLM need not be installed where the tests run.
        about_the_cluster = [line for line in lines if not line.startswith("engine ")]
        assert result.exit_code == 1 or not any(" FAILED " in line for line in about_the_cluster)
        return [line for line in about_the_cluster if line.startswith(what)]

    def _survey(self, request: SurveyRequest) -> ClusterSurvey:
        self.asked.append(request)
        return ClusterSurvey(self.nodes)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    return Check(tmp_path, monkeypatch)


def test_a_cluster_that_has_what_it_needs_is_described(check: Check):
    check.models("replicas = 2")
    check.node(gpus=4, expires_at=time.time() + 300 * DAY_SECONDS + 60)
    (node,) = check.run("node")
    assert node.startswith("node 10.0.0.1 ok gpu1: 4 GPUs, 0 of them free; 8 CPUs; certificate: valid until ")
    assert node.endswith(f"300 days; Python {GOOD.python}, Ray 2.60.0, vllm 0.32.0; 65536 open files")
    assert check.run("cluster") == ["cluster ok 10.0.0.10:6379: 1 node"]
    assert check.run("files") == [f"files of m:latest ok {check.weights}: on 1 node"]
    assert check.run("room") == ["room for m:latest ok 2 replicas with 1 GPU each; the nodes have room for 4"]
    assert check.run("GPUs") == ["GPUs ok 4, 0 of them free; pinned models take 2, and all models 2"]


@pytest.mark.parametrize(
    ("facts", "lack"),
    [
        ({"python": "3.11.99"}, f"Python 3.11.99, and {GOOD.python} on this machine: they must be the same"),
        ({"ray": "2.59.0"}, "Ray 2.59.0, and 2.60.0 on this machine: they must be the same"),
        ({"package": "0.0.9"}, f"vllm-wsgi 0.0.9, and {__version__} on this machine: they must be the same"),
        ({"engine": ""}, "vLLM is not installed: pip install 'vllm-wsgi[engine]'"),
        ({"certificate_trouble": "certificate has expired"}, "certificate has expired"),
        ({"open_files": 256}, "a process may open 256 files, and an engine worker needs 1024: LimitNOFILE"),
    ],
)
def test_what_a_node_lacks_is_named(check: Check, facts: dict[str, Any], lack: str):
    check.node()
    check.node(**facts)
    rows = check.run("node")
    assert [row.split()[2] for row in rows] == ["ok", "FAILED", "FAILED"]
    assert rows[2] == f"node 10.0.0.2 FAILED {lack}"


def test_a_node_that_does_not_answer_fails(check: Check):
    check.node(trouble="does not answer within 60 seconds")
    (row,) = check.run("node")
    assert row == "node 10.0.0.1 FAILED gpu1: 1 GPU, 0 of them free; 8 CPUs; does not answer within 60 seconds"


def test_a_node_that_runs_no_engine_worker_needs_no_engine_and_no_files(check: Check):
    check.node()
    check.node(gpus=0, engine="", missing=[str(check.weights)], certificate_trouble="certificate has expired")
    assert [row for row in check.run("") if " FAILED " in row] == []


def test_a_path_that_a_node_lacks_is_named(check: Check):
    check.node()
    check.node(missing=[str(check.weights)])
    assert check.run("files") == [f"files of m:latest FAILED {check.weights}: not on 10.0.0.2"]
    assert check.asked[0].needs.paths == [str(check.weights)]


def test_a_repository_of_the_hub_may_be_downloaded_later(check: Check):
    check.models('[models."org/name"]\nsource = "org/name"')
    check.node()
    check.node(not_cached=["org/name"])
    (_, row) = check.run("files")
    assert row == (
        "files of org/name:latest ok org/name of the hub: in the cache of 1 node; "
        "it is downloaded when it loads on 10.0.0.2"
    )


def test_the_store_must_be_on_each_node_once_a_client_has_made_a_model(check: Check):
    store = check.variables["VLLM_WSGI_STORE"]
    Path(store, "manifests").mkdir(parents=True)
    check.node(missing=[store])
    assert check.run("node")[1] == f"node 10.0.0.1 FAILED {store}, the store, is not there or can't be read"


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ("replicas = 2\ngpus = 3", "FAILED 2 replicas with 3 GPUs each; the nodes have room for 1"),
        ("gpus = 0.25", "ok 1 replica with 0.25 GPUs each; the nodes have room for 20"),
        ("gpus = 0.2\nreplicas = 25", "ok 25 replicas with 0.2 GPUs each; the nodes have room for 25"),
        ("gpus = 0\nreplicas = 17", "FAILED 17 replicas with 0 GPUs each; the nodes have room for 16"),
        ('gpus = 5\nengine_args = { distributed_executor_backend = "ray" }',
         "ok 1 replica with 5 GPUs each; the nodes have room for 1"),
    ],
)  # fmt: skip
def test_whether_the_replicas_have_room_is_counted_by_nodes(check: Check, fields: str, row: str):
    check.models(fields)
    check.node(gpus=2)
    check.node(gpus=3)
    assert check.run("room") == [f"room for m:latest {row}"]


def test_pinned_models_need_more_gpus_than_there_are(check: Check):
    check.models(f'[models.n]\nsource = "{check.weights}"\npinned = true\ngpus = 2')
    check.node(gpus=2)
    assert check.run("GPUs") == ["GPUs FAILED 2, 0 of them free; pinned models take 3, and all models 3"]


def test_parts_of_gpus_that_fill_a_cluster_are_not_too_many(check: Check):
    check.models(
        f'gpus = 0.8\nreplicas = 3\n[models.n]\nsource = "{check.weights}"\npinned = true\ngpus = 0.3\nreplicas = 2'
    )
    for _ in range(3):
        check.node(gpus=1)
    assert check.run("GPUs") == ["GPUs ok 3, 0 of them free; pinned models take 3, and all models 3"]


def test_a_port_is_wanted_for_each_part_of_a_gpu(check: Check):
    check.models("gpus = 0.2\nreplicas = 5")
    check.node(gpus=1)
    (row,) = check.run("limits", VLLM_WSGI_ENGINE_PORTS="7434-7437")
    assert row == "limits FAILED VLLM_WSGI_ENGINE_PORTS has 4 ports, and a node may run 5 engine workers"


def test_a_range_of_ports_that_is_too_small_for_a_node_fails(check: Check):
    check.models("replicas = 4")
    check.node(gpus=3)
    check.node(gpus=1)
    assert check.run("limits", VLLM_WSGI_ENGINE_PORTS="7434-7435") == [
        "limits FAILED VLLM_WSGI_ENGINE_PORTS has 2 ports, and a node may run 3 engine workers"
    ]
    assert check.run("limits", VLLM_WSGI_ENGINE_PORTS="7434-7436", VLLM_WSGI_MAX_MEMORY="1") == [
        "limits ok 3 ports for up to 3 engine workers on a node; queues and the limits of keys hold for each replica: "
        "up to 4 times as much for a model; VLLM_WSGI_MAX_MEMORY counts the memory of all nodes together"
    ]


def test_a_cluster_that_can_not_be_asked_is_one_row(check: Check, monkeypatch: pytest.MonkeyPatch):
    def fail(request: SurveyRequest) -> ClusterSurvey:
        raise Unavailable("the cluster 10.0.0.10:6379 does not answer within 120 seconds")

    monkeypatch.setattr(cluster_check, "survey", fail)
    assert check.run("cluster") == ["cluster FAILED the cluster 10.0.0.10:6379 does not answer within 120 seconds"]
    assert check.run("node") == []


def test_devices_in_models_toml_are_a_mistake(check: Check):
    check.models('devices = ["0"]')
    (row,) = check.run("cluster")
    assert row.startswith('cluster FAILED models."m:latest".devices: Ray chooses the GPUs')
