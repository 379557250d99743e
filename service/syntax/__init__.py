"""How people write things: names of models, durations, options, numbers, Go templates, TOML files.

In: text. Out: values, or BadRequest.
It never knows a request, a socket or a model's files.
"""
