"""A vLLM plugin with which vLLM takes Ray's GPUs for its CPUs, so that a model spans nodes that have no GPU.

vLLM finds it on PYTHONPATH by the entry point in `ray_on_cpu-0.dist-info`, in each of its processes. It names a
platform: vLLM's processes on other nodes ask for Ray's resource before they load any other kind of plugin.
"""

from __future__ import annotations


def platform() -> str:
    """Return the name of the class that is vLLM's platform."""
    return f"{__name__}.platform.RayOnCpu"
