"""`vllm-wsgi check` on the engine host's machine of a Ray cluster."""

from __future__ import annotations

from tests.cluster.ray.fleet import Fleet


def test_a_check_asks_each_node_what_it_has_and_lacks(fleet: Fleet):
    status, lines = fleet.check()
    assert [line for line in lines if "FAILED" in line] == []
    nodes = [line for line in lines if line.startswith("node ")]
    assert (status, sum("1 GPU, 0 of them free" in line for line in nodes)) == (0, 2)
    assert "room for demo:latest ok 2 replicas with 1 GPU each; the nodes have room for 2" in lines
    # Ray's own environment has no vLLM.
    status, lines = fleet.check(VLLM_WSGI_ENGINE="vllm")
    lacking = [line for line in lines if line.endswith("FAILED vLLM is not installed: pip install 'vllm-wsgi[engine]'")]
    assert (status, len(lacking)) == (1, 2)
    assert any(line.startswith("files of demo:latest ok ") and line.endswith(": on 2 nodes") for line in lines)
