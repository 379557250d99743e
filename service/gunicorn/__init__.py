"""The parts that gunicorn loads: a worker class, hooks, the engine host as a child.

In: gunicorn's settings and signals. Out: processes that start, drain and end in order.
It never knows a dialect or vLLM.
"""
