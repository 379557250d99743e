"""What each API looks like: bodies to requests, events to records.

In: parsed JSON and events. Out: requests and records.
A dialect never knows Flask, a socket or bytes of an answer.
"""
