"""The proxies of deploy/, started with the shipped files: only ports, paths and time-outs are put in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.servers import ROOT, WebProgram, free_port

# Under which the server of these tests puts its routes.
PREFIX = "/llm"
# In place of the shipped 600 s: less than the longest silence of these tests, and many heartbeats long, since a busy
# machine brings those late.
PATIENCE = 4

NGINX = """
user root;
pid {directory}/nginx.pid;
error_log stderr;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/vllm-wsgi.conf;
}}
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")
APACHE = """
ServerName test
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog /dev/stderr
Listen 127.0.0.1:{port}
<IfModule unixd_module>
    User daemon
    Group daemon
</IfModule>
Include {directory}/vllm-wsgi.conf
"""
CADDY = """
{{
	admin off
	auto_https disable_redirects
	default_sni llm.example.com
}}
import {directory}/vllm-wsgi.caddy
"""
LIGHTTPD_MODULES = ("/usr/lib/lighttpd", "/usr/lib64/lighttpd")
LIGHTTPD = """
server.document-root = "{directory}"
server.port = {port}
server.bind = "127.0.0.1"
server.errorlog = "/dev/stderr"
include "{directory}/vllm-wsgi.conf"
"""
SQUID = """
pid_filename none
cache_log /dev/null
access_log none
coredump_dir /
shutdown_lifetime 0 seconds
"""


class Proxy(WebProgram):
    """A proxy, asked over TLS if it can; `plain_url` is where it answers without TLS, too, else empty.

    `patience` is how many seconds it waits for a byte.
    """

    def __init__(
        self,
        command: list[str],
        directory: Path,
        port: int,
        plain_port: int | None = None,
        patience: int = PATIENCE,
        tls: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(command, directory, port, env)
        self.patience = patience
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{PREFIX}"
        self.plain_url = f"http://127.0.0.1:{plain_port}{PREFIX}" if plain_port else ""


def start_nginx(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port = free_port()
    shipped("nginx.conf", directory / "vllm-wsgi.conf", {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server 127.0.0.1:11434": f"server 127.0.0.1:{server_port}",
        "/etc/ssl/certs/llm.example.com.pem": f"{directory}/certificate.pem",
        "/etc/ssl/private/llm.example.com.key": f"{directory}/key.pem",
        "proxy_read_timeout 600s": f"proxy_read_timeout {patience}s",
    })  # fmt: skip
    main = directory / "nginx.conf"
    main.write_text(NGINX.format(directory=directory))
    return Proxy([found("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(main)], directory, port)


def start_haproxy(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port, plain_port = free_port(), free_port()
    (directory / "both.pem").write_text(
        (directory / "certificate.pem").read_text() + (directory / "key.pem").read_text()
    )
    shipped("haproxy.cfg", directory / "haproxy.cfg", {
        "bind :443": f"bind 127.0.0.1:{plain_port}\n    bind 127.0.0.1:{port}",
        "server web1 127.0.0.1:11434": f"server web1 127.0.0.1:{server_port}",
        "/etc/haproxy/llm.example.com.pem": f"{directory}/both.pem",
        "GET /readyz": f"GET {PREFIX}/readyz",
        "timeout client 600s": f"timeout client {patience}s",
        "timeout server 600s": f"timeout server {patience}s",
        # Of the file descriptors of whoever runs the tests.
        "maxconn 20000": "maxconn 200",
        "log /dev/log local0": "log stdout format raw local0",
    })  # fmt: skip
    return Proxy([found("haproxy"), "-db", "-f", str(directory / "haproxy.cfg")], directory, port, plain_port)


def start_apache(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port = free_port()
    shipped("apache.conf", directory / "vllm-wsgi.conf", {
        "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{port}>",
        "http://127.0.0.1:11434/": f"http://127.0.0.1:{server_port}/",
        "/etc/ssl/certs/llm.example.com.pem": f"{directory}/certificate.pem",
        "/etc/ssl/private/llm.example.com.key": f"{directory}/key.pem",
        "ProxyTimeout 600": f"ProxyTimeout {patience}",
    })  # fmt: skip
    modules = ("mpm_event", "authz_core", "ssl", "proxy", "proxy_http", "headers", "unique_id", "env")
    loads = [f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in modules]
    main = directory / "apache.conf"
    main.write_text("\n".join(loads) + APACHE.format(directory=directory, port=port))
    return Proxy([found("apache2"), "-D", "FOREGROUND", "-f", str(main)], directory, port)


def start_caddy(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port = free_port()
    shipped("Caddyfile", directory / "vllm-wsgi.caddy", {
        "llm.example.com {": f"https://:{port} {{\n\ttls {directory}/certificate.pem {directory}/key.pem",
        "127.0.0.1:11434": f"127.0.0.1:{server_port}",
        "health_uri /readyz": f"health_uri {PREFIX}/readyz",
        "response_header_timeout 600s": f"response_header_timeout {patience}s",
        "read_timeout 600s": f"read_timeout {patience}s",
    })  # fmt: skip
    main = directory / "Caddyfile"
    main.write_text(CADDY.format(directory=directory))
    command = [found("caddy"), "run", "--adapter", "caddyfile", "--config", str(main)]
    return Proxy(command, directory, port, env={"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)})


def start_lighttpd(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port = free_port()
    shipped("lighttpd.conf", directory / "vllm-wsgi.conf", {
        '"socket"] == ":443"': f'"socket"] == "127.0.0.1:{port}"',
        '"port" => 11434': f'"port" => {server_port}',
        "/etc/ssl/certs/llm.example.com.pem": f"{directory}/certificate.pem",
        "/etc/ssl/private/llm.example.com.key": f"{directory}/key.pem",
        '"read-timeout" => 600': f'"read-timeout" => {patience}',
    })  # fmt: skip
    main = directory / "lighttpd.conf"
    main.write_text(LIGHTTPD.format(directory=directory, port=free_port()))
    return Proxy([found("lighttpd"), "-D", "-f", str(main)], directory, port)


def start_varnish(directory: Path, server_port: int, patience: int = PATIENCE) -> Proxy:
    port = free_port()
    shipped("varnish.vcl", directory / "vllm-wsgi.vcl", {
        '.port = "11434"': f'.port = "{server_port}"',
        '.url = "/readyz"': f'.url = "{PREFIX}/readyz"',
        ".first_byte_timeout = 600s": f".first_byte_timeout = {patience}s",
        ".between_bytes_timeout = 600s": f".between_bytes_timeout = {patience}s",
    })  # fmt: skip
    command = [found("varnishd"), "-F", "-a", f"127.0.0.1:{port}", "-f", str(directory / "vllm-wsgi.vcl")]
    command += ["-n", str(directory / "work"), "-j", "none", "-s", "malloc,16m"]
    return Proxy(command, directory, port, tls=False)


def start_squid(directory: Path, server_port: int, patience: int = 2 * PATIENCE) -> Proxy:
    # Squid looks for time-outs once a second, so that one of a second may come at once.
    port = free_port()
    main = directory / "squid.conf"
    shipped("squid.conf", main, {
        "https_port 443": f"https_port 127.0.0.1:{port}",
        "parent 11434": f"parent {server_port}",
        "/etc/ssl/certs/llm.example.com.pem": f"{directory}/certificate.pem",
        "/etc/ssl/private/llm.example.com.key": f"{directory}/key.pem",
        "read_timeout 600 seconds": f"read_timeout {patience} seconds",
    })  # fmt: skip
    main.write_text(main.read_text() + SQUID)
    return Proxy(
        [found("squid"), "-N", "-d", "1", "-n", f"port{port}", "-f", str(main)], directory, port, patience=patience
    )


STARTS: dict[str, Callable[..., Proxy]] = {
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    "apache2": start_apache,
    "caddy": start_caddy,
    "lighttpd": start_lighttpd,
    "varnishd": start_varnish,
    "squid": start_squid,
}


def missing(name: str) -> str:
    """What this machine lacks for a proxy's tests; empty where it lacks nothing."""
    programs = [program for program in (name, "openssl") if not found(program)]
    return ", ".join(programs or without_tls(name))


def without_tls(name: str) -> list[str]:
    """The Debian package that brings TLS to a proxy which is installed without; none where it has TLS."""
    if name == "lighttpd" and not any(Path(place, "mod_openssl.so").exists() for place in LIGHTTPD_MODULES):
        return ["lighttpd-mod-openssl"]
    if name == "squid":
        built = subprocess.run([found("squid"), "-v"], capture_output=True, text=True, check=True).stdout
        return [] if "--with-openssl" in built else ["squid-openssl"]
    return []


def found(program: str) -> str:
    """Its path, empty where it is not installed. Debian's place for daemons is not on everyone's PATH."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") or ""


def shipped(name: str, target: Path, values: dict[str, str]) -> None:
    """The file deploy/NAME at `target`, with each of the values put in once."""
    text = (ROOT / "deploy" / name).read_text()
    for placeholder, value in values.items():
        assert text.count(placeholder) == 1, placeholder
        text = text.replace(placeholder, value)
    target.write_text(text)


def certify(directory: Path) -> None:
    """A certificate of our own, which no client here verifies."""
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=llm.example.com",
        "-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
