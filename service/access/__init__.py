"""The right to call: keys and their file, origins, Host headers, addresses.

In: headers and addresses. Out: a key, or an error.
It never knows Flask, a dialect or the engine.
"""
