"""The three APIs: each turns bodies into requests, and events into records.

In: parsed JSON and events. Out: requests and records.
A dialect never knows Flask, a socket or the bytes of an answer.
"""
