"""Certificates: which ones can be used, and when they expire."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.transport.address import parse_address
from service.transport.credentials import Credentials, check_credentials
from tests.support.certificates import certify

GPU1 = parse_address("tls://gpu1:7433")


@pytest.mark.parametrize("engine", [True, False])
def test_a_certificate_tells_when_it_expires(tmp_path: Path, engine: bool):
    began = time.time()
    machine = certify(tmp_path, ["m"], engine=engine, seconds=5000)
    assert began + 4998 < Credentials(machine).expires_at() < time.time() + 5000


def test_an_expired_certificate_is_refused_at_the_start(tmp_path: Path):
    machine = certify(tmp_path, ["m"], engine=True, seconds=-60)
    with pytest.raises(SettingsError, match=r"VLLM_WSGI_TLS=.*certificate.pem: certificate has expired"):
        check_credentials(GPU1, machine)


def test_a_certificate_of_another_ca_is_refused_at_the_start(tmp_path: Path):
    machine = certify(tmp_path, ["m"], engine=True)
    other = certify(tmp_path, ["m"], engine=True, ca="other")
    Path(other, "ca.pem").replace(Path(machine, "ca.pem"))
    with pytest.raises(SettingsError, match=r"VLLM_WSGI_TLS=.*certificate.pem"):
        check_credentials(GPU1, machine)


def test_a_key_of_another_certificate_is_refused_at_the_start(tmp_path: Path):
    machine, other = (certify(tmp_path, ["m"], engine=True) for _ in range(2))
    Path(other, "key.pem").replace(Path(machine, "key.pem"))
    with pytest.raises(SettingsError, match=r"VLLM_WSGI_TLS=.*key values mismatch"):
        check_credentials(GPU1, machine)


@pytest.mark.parametrize("name", ["ca.pem", "certificate.pem", "key.pem"])
def test_a_file_that_is_missing_or_damaged_is_refused_at_the_start(tmp_path: Path, name: str):
    machine = certify(tmp_path, ["m"], engine=True)
    Path(machine, name).write_text("not PEM")
    with pytest.raises(SettingsError, match="VLLM_WSGI_TLS="):
        check_credentials(GPU1, machine)
    Path(machine, name).unlink()
    with pytest.raises(SettingsError, match=f"VLLM_WSGI_TLS=.*{name}: No such file"):
        check_credentials(GPU1, machine)


def test_tls_needs_certificates_and_nothing_else_does():
    with pytest.raises(SettingsError, match=r"VLLM_WSGI_ENGINE_SOCKET=tls://gpu1:7433 .* VLLM_WSGI_TLS"):
        check_credentials(GPU1, "")
    check_credentials(parse_address("tcp://localhost:7433"), "")
    check_credentials(parse_address("/run/engine.sock"), "")


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path):
    machine, renewed = (certify(tmp_path, ["m"], engine=True) for _ in range(2))
    credentials = Credentials(machine)
    first = credentials.for_server()
    assert credentials.for_server() is first
    for file in Path(renewed).iterdir():
        file.replace(Path(machine, file.name))
    assert credentials.for_server() is not first
