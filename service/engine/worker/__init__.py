"""The process of one model: admission in front of an engine, and its life.

In: commands on the data socket. Out: events, and reports to the host.
It never knows HTTP, keys or other models.
"""
