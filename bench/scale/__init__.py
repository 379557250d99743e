"""How far one engine host carries: what the control of many replicas costs, a simulation with these costs, and a check.

In: nothing. Out: bench/scale/results.json, docs/images/scale.svg and the tables in docs/explanation/scale.md.
"""
