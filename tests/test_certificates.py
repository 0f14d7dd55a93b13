"""The certificates of `serve --tls`: who trusts the authority trusts the server, under each of its names."""

import ssl
from pathlib import Path

import certifi
import pytest

from streamapp.errors import InvalidInput
from streamapp.fal.api import HOSTS
from streamapp.serve import certificates
from streamapp.serve.certificates import Certificates, issue


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("tls"), "gpu.example")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Let both sides meet in memory; raises what the client does not accept."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def meet(files: Certificates, host: str, *, trusted: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.server)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of Python 3.13
    shake_hands(server, client, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "gpu.example", *HOSTS])
def test_who_trusts_the_authority_trusts_the_server_under_each_of_its_names(files: Certificates, host: str) -> None:
    meet(files, host, trusted=files.authority)


def test_another_name_is_not_trusted(files: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        meet(files, "other.example", trusted=files.authority)


def test_who_does_not_trust_the_authority_does_not_trust_the_server(files: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        meet(files, "localhost", trusted=Path(certifi.where()))


def test_the_bundle_holds_the_authority_beside_the_public_ones(files: Certificates) -> None:
    meet(files, "localhost", trusted=files.bundle)
    assert files.bundle.read_bytes() == Path(certifi.where()).read_bytes() + files.authority.read_bytes()


def test_keys_are_for_their_owner_only(files: Certificates) -> None:
    with_key = [path for path in files.server.parent.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert {path.name for path in with_key} == {"server.pem", "ca-key.pem"}
    assert {path.stat().st_mode & 0o777 for path in with_key} == {0o600}


def test_a_key_file_that_others_could_read_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "server.pem").touch(0o644)
    assert issue(tmp_path, "localhost").server.stat().st_mode & 0o777 == 0o600


def test_the_authority_stays_and_the_servers_certificate_is_new_each_time(tmp_path: Path) -> None:
    first, second = ({path.name: path.read_bytes() for path in issue_in(tmp_path)} for _ in range(2))
    assert first["ca.pem"] == second["ca.pem"]
    assert first["server.pem"] != second["server.pem"]


def issue_in(folder: Path) -> list[Path]:
    issue(folder, "localhost")
    return list(folder.iterdir())


def test_an_authority_that_would_end_before_the_servers_certificate_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_AUTHORITY_DAYS", 30)
    old = issue(tmp_path, "localhost").authority.read_bytes()
    monkeypatch.undo()
    assert issue(tmp_path, "localhost").authority.read_bytes() != old


@pytest.mark.parametrize("broken", ["another", "empty"])
def test_an_authority_that_does_not_fit_its_key_is_refused(files: Certificates, tmp_path: Path, broken: str) -> None:
    authority = issue(tmp_path, "localhost").authority
    authority.write_bytes(files.authority.read_bytes() if broken == "another" else b"")
    with pytest.raises(InvalidInput, match=r"ca\.pem and ca-key\.pem are no authority; delete both"):
        issue(tmp_path, "localhost")
