"""Somebody's application, as every server of the matrix serves it. It runs on each Python and Flask of the matrix."""

from flask import Flask
from vllm_wsgi import create_blueprint

app = Flask(__name__)
app.register_blueprint(create_blueprint(), url_prefix="/llm")


@app.route("/hello")
def hello():
    return "hello"
