"""An application with the extensions that real applications have, and the blueprint twice in it.

It stands for the applications of others: everything here is written as the extensions' own documentation says. The one
line for our sake is `csrf.exempt`. It runs on Python 3.9.
"""

import os

import sentry_sdk
from flask import Flask, abort, jsonify, request
from flask.json.provider import DefaultJSONProvider
from flask_caching import Cache
from flask_compress import Compress
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_restful import Api as RestfulApi
from flask_restful import Resource as RestfulResource
from flask_restx import Api, Resource
from flask_socketio import SocketIO
from flask_sqlalchemy import SQLAlchemy
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect, generate_csrf
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from vllm_wsgi import Settings, create_blueprint, inference, stream_response
from werkzeug.middleware.proxy_fix import ProxyFix

cache, compress, csrf, db, login, socketio = (
    Cache(),
    Compress(),
    CSRFProtect(),
    SQLAlchemy(),
    LoginManager(),
    SocketIO(),
)
limiter = Limiter(get_remote_address, default_limits=["1000/minute"], storage_uri="memory://", headers_enabled=True)


class Visit(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    path = db.Column(db.String(200))


class User(UserMixin):
    def __init__(self, id):
        self.id = id


class WideJSON(DefaultJSONProvider):
    def dumps(self, obj, **kwargs):
        return super().dumps(obj, **{**kwargs, "indent": 3})


class Hello(Resource):
    def get(self):
        return {"rest": "hello"}


class RestfulHello(RestfulResource):
    def get(self):
        return {"restful": "hello"}


def create_app():
    sentry_sdk.init(dsn=os.environ["SENTRY"], traces_sample_rate=1.0, default_integrations=True)
    app = Flask("shop")
    app.config.update(
        SECRET_KEY="for tests",
        SERVER_NAME="shop.test:" + os.environ["PORT"],
        SQLALCHEMY_DATABASE_URI="sqlite:///" + os.path.abspath("shop.db"),
        CACHE_TYPE="SimpleCache",
        WTF_CSRF_SSL_STRICT=False,
    )
    app.json = WideJSON(app)
    for extension in (cache, compress, csrf, db, login, limiter):
        extension.init_app(app)
    CORS(app)
    Talisman(app, force_https=False, session_cookie_secure=False)
    socketio.init_app(app, async_mode="gevent")
    add_traces(app)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
    login.user_loader(User)
    with app.app_context():
        db.create_all()
    add_hooks(app)
    add_pages(app)
    add_models(app)
    Api(app, prefix="/rest", doc="/rest/doc").add_resource(Hello, "/hello")
    RestfulApi(app, prefix="/restful").add_resource(RestfulHello, "/hello")
    return app


def add_traces(app):
    """Each span becomes a line of spans.jsonl when it ends."""
    lines = open("spans.jsonl", "a")  # noqa: SIM115
    exporter = ConsoleSpanExporter(out=lines, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    FlaskInstrumentor().instrument_app(app)


def add_hooks(app):
    @app.before_request
    def count_fields():
        app.logger.debug("%d fields", len(request.form))
        db.session.add(Visit(path=request.path))
        db.session.commit()

    @app.after_request
    def measure(response):
        response.headers["X-Bytes"] = str(len(response.data))
        return response

    for error in (400, 401, 403, 404, 405, 413, 429, 500):
        app.register_error_handler(error, lambda error: (f"<h1>{error.code}</h1>", error.code))


def add_pages(app):
    @app.route("/")
    def home():
        return "<h1>" + "shop " * 300 + "</h1>"

    @app.route("/token")
    def token():
        return generate_csrf()

    @app.route("/login", methods=["POST"])
    def log_in():
        login_user(User(request.form["name"]))
        return "welcome"

    @app.route("/me")
    @login_required
    def me():
        return jsonify(name=current_user.id)

    @app.route("/visits")
    def visits():
        return str(db.session.query(Visit).count())

    @app.route("/cached")
    @cache.cached()
    def cached():
        return os.urandom(8).hex()

    @app.route("/broken")
    def broken():
        raise RuntimeError("broken")

    @app.route("/ask", methods=["POST"])
    @login_required
    def ask():
        messages = [{"role": "user", "content": request.form["question"]}]
        return stream_response(inference("members").chat("demo", messages, caller=current_user.id))

    @socketio.on("message")
    def echo(data):
        return data


def add_models(app):
    """One blueprint for anybody under a prefix and on a subdomain, one for members, and one with few requests."""
    common = {
        "engine_socket": os.environ["ENGINE"],
        "heartbeat": float(os.environ["HEARTBEAT"]),
        "hosts": "shop.test,llm.shop.test",
    }
    public = create_blueprint(Settings(max_body=10_000, **common))
    members = create_blueprint(Settings(allow_anyone=True, ollama_version="9.9.9", **common), "members")

    limited = create_blueprint(Settings(**common), "limited")
    # By far longer than the tests run, so that no window ends between two of their requests.
    limiter.limit("2/year")(limited)

    @members.before_request
    def members_only():
        if not current_user.is_authenticated:
            abort(401)

    for blueprint in (public, members, limited):
        csrf.exempt(blueprint)
    app.register_blueprint(public, url_prefix="/llm")
    app.register_blueprint(public, url_prefix="/", subdomain="llm", name="on_subdomain")
    app.register_blueprint(members, url_prefix="/members")
    app.register_blueprint(limited, url_prefix="/limited")
