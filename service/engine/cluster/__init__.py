"""Engine workers on the nodes of a Ray cluster: one thin actor for each replica, which starts the worker as its child.

In: a model and a replica's number. Out: a worker that runs on some node, and its reports. Ray places, and frees what a
dead actor held. Tokens never pass through Ray. This package alone imports Ray, inside functions.
"""
