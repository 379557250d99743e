"""An application with background tasks, for Celery and for RQ, that ask the engine without a request.

The functions are written as docs/how-to/ask-from-your-own-code.md says. Celery's queue and results are files in the
current directory, RQ's are in the Redis server of REDIS. As a program it hands texts to tasks, and prints what each
task returned, or the error that ended it.
"""

import os
import sys

from celery import Celery
from flask import Flask
from vllm_wsgi import Inference, Settings, create_blueprint, inference

SETTINGS = Settings(engine_socket=os.environ["ENGINE"])

app = Flask("tasks")
app.register_blueprint(create_blueprint(SETTINGS))
llm = Inference(SETTINGS)

celery = Celery("tasks", broker="filesystem://", backend="file://" + os.getcwd())
celery.conf.broker_transport_options = {
    "data_folder_in": "queue",
    "data_folder_out": "queue",
    "control_folder": "queue",
}


@celery.task
def summarise(text):
    """Ask in the application's context, as the application's views do."""
    with app.app_context():
        return inference().generate("demo", text, caller="tasks").answer().text


def summarise_in_rq(text):
    """Ask without an application."""
    return llm.generate("demo", text, caller="tasks").answer().text


def answers_of_celery(texts):
    for result in [summarise.delay(text) for text in texts]:
        yield result.get(propagate=False)


def answers_of_rq(texts):
    """Run a worker until the queue is empty. It forks a child for each job."""
    from redis import Redis
    from rq import Queue, Worker

    queue = Queue(connection=Redis(unix_socket_path=os.environ["REDIS"]))
    jobs = [queue.enqueue(summarise_in_rq, text) for text in texts]
    Worker([queue], connection=queue.connection).work(burst=True)
    for result in [job.latest_result() for job in jobs]:
        yield result.exc_string.strip().splitlines()[-1] if result.exc_string else result.return_value


if __name__ == "__main__":
    # The functions under the name by which a worker imports them.
    import tasks

    for answer in getattr(tasks, sys.argv[1])(sys.argv[2:]):
        print(f"{type(answer).__name__}: {answer}")
