"""Ask the nodes of a cluster that does not exist, and a survey that hangs, fails or answers nonsense."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from service import __version__
from service.engine.cluster.node_facts import NodeFacts, NodeNeeds, facts_of
from service.engine.cluster.survey import ClusterSurvey, SurveyRequest, survey, surveyed
from service.errors import Unavailable
from service.protocol.model_info import ClusterNode
from tests.support.certificates import certify

REQUEST = SurveyRequest("10.0.0.10:6379", NodeNeeds())
FACTS = NodeFacts("3.11.7", "2.60.0", "0.1.0")


class AnsweringCluster:
    """Each node answers what the test says."""

    def __init__(self, **answers: bytes | Unavailable) -> None:
        self._answers = answers

    def nodes(self) -> list[ClusterNode]:
        return [ClusterNode(id=name, address=name) for name in self._answers]

    def run_on(
        self, node_ids: Sequence[str], work: Callable[[bytes], bytes], argument: bytes, seconds: float
    ) -> dict[str, bytes | Unavailable]:
        assert msgspec.msgpack.decode(argument, type=NodeNeeds) == NodeNeeds(["/weights"])
        return {node: self._answers[node] for node in node_ids}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_node_has_facts_or_a_reason_for_which_there_are_none():
    answers = {"a": msgspec.msgpack.encode(FACTS), "b": Unavailable("does not answer"), "c": b"\x90"}
    found = surveyed(AnsweringCluster(**answers), NodeNeeds(["/weights"]))
    assert [each.facts for each in found.nodes] == [FACTS, None, None]
    assert found.nodes[1].trouble == "does not answer"
    assert found.nodes[2].trouble.startswith("its answer can't be read")


def test_a_node_says_what_it_has_and_lacks(tmp_path: Path):
    found = facts_of(NodeNeeds([str(tmp_path), str(tmp_path / "weights")], ["org/name"]), "10.0.0.2", "2.60.0")
    assert (found.python, found.ray, found.package) == (platform.python_version(), "2.60.0", __version__)
    assert (found.missing, found.not_cached) == ([str(tmp_path / "weights")], ["org/name"])
    assert (found.certificate_trouble, found.expires_at) == ("", None)
    assert found.open_files > 0


@pytest.mark.parametrize(
    ("address", "engine", "seconds", "trouble"),
    [
        ("10.0.0.2", True, 5000, ""),
        ("10.0.0.3", True, 5000, "IP address mismatch"),
        ("10.0.0.2", False, 5000, "unsuitable certificate purpose"),
        ("10.0.0.2", True, -60, "certificate has expired"),
    ],
)
def test_a_certificate_must_be_good_at_the_address_of_the_node(
    tmp_path: Path, address: str, engine: bool, seconds: float, trouble: str
):
    needs = NodeNeeds(tls=certify(tmp_path, ["10.0.0.2"], engine=engine, seconds=seconds))
    found = facts_of(needs, address, "2.60.0")
    assert trouble in found.certificate_trouble
    assert (found.certificate_trouble == "") == (trouble == "") == (found.expires_at is not None)


@pytest.mark.interpreter
def test_the_last_line_of_a_survey_is_its_answer():
    answer = msgspec.json.encode(ClusterSurvey([])).decode()
    code = f"import sys; sys.stdin.read(); print('Ray says something'); print({answer!r})"
    assert survey(REQUEST, 600, python(code)) == ClusterSurvey([])


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [
        ("import time; time.sleep(3600)", 0.01, "the cluster 10.0.0.10:6379 does not answer within 0.01 seconds"),
        ("import sys; sys.exit('Ray warns\\nthe cluster can not be joined')", 600, "^the cluster can not be joined"),
        ("import os; os._exit(3)", 600, "the survey ended with status 3"),
        ("print('nonsense')", 600, "the survey's answer can't be read"),
    ],
    ids=["hangs", "fails", "exits", "answers nonsense"],
)
def test_a_survey_that_gives_no_answer_has_a_reason(code: str, seconds: float, reason: str):
    with pytest.raises(Unavailable, match=reason):
        survey(REQUEST, seconds, python(code))
