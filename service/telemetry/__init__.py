"""The reports of a request: statistics, log line, metrics, trace.

In: events and endings. Out: lines, counts and spans.
It never knows Flask or a dialect.
"""
