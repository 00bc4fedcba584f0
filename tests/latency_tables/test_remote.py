"""Tables at an address, from a real server that speaks TLS: fetched once, checked, and there without a network."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latency_tables import home, pack, remote
from latency_tables.errors import AddressError, DamagedTableError, DownloadError, UnreachableError
from latency_tables.remote import Address
from latency_tables.table import LatencyTable


@dataclass
class Site:
    """What the server answers by path, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tag = self.headers.get("If-None-Match")
            site.asked.append((self.path, tag))
            if target := site.redirects.get(self.path):
                self.send_response(302)
                self.send_header("Location", target)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = site.files.get(self.path)
            if content is None:
                self.send_error(404, "no\x1b[2Jsuch file")
                return
            current = f'"{pack.sha256(content)[:8]}"'
            self.send_response(304 if tag == current else 200)
            self.send_header("ETag", current)
            self.send_header("Content-Length", str(0 if tag == current else len(content)))
            self.end_headers()
            if tag != current:
                self.wfile.write(content[: len(content) // 2] if self.path in site.short else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def serve(site: Site, certificate: Path | None) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    site.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of 127.0.0.1, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *words, *extension, "-keyout", path.with_name("key"), "-out", path],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.with_name("key").read_bytes() + path.read_bytes())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, not yet made; no proxy in between."""
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return tmp_path / "home" / "cache" / "tables"


@pytest.fixture
def site(certificate: Path, folder: Path, table: LatencyTable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site that is trusted and has the table, packed and plain."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    site = Site({"/t.jsonl.gz": pack.pack(table), "/t.jsonl": table.path.read_bytes()})
    server = serve(site, certificate)
    yield site
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["/t.jsonl.gz", "/t.jsonl"])
def test_a_table_at_an_address_is_the_table(site: Site, table: LatencyTable, folder: Path, place: str) -> None:
    opened = home.open_table(site.url + place)
    assert opened.hash == table.hash
    assert opened.path == folder / f"{pack.sha256(table.path.read_bytes())}.jsonl"


def test_asked_again_the_server_says_that_it_is_the_same_or_gives_the_new_one(
    site: Site, table: LatencyTable, folder: Path
) -> None:
    address = f"{site.url}/t.jsonl.gz"
    assert home.find_table(address) == home.find_table(address)
    assert [tag is None for _, tag in site.asked] == [True, False]
    other = LatencyTable(table.path, {**table.header, "subject": "other"}, table.rows, table.samples)
    site.files["/t.jsonl.gz"] = pack.pack(other)
    assert home.open_table(address).header["subject"] == "other"


def test_without_a_network_what_was_fetched_before_will_do(site: Site, table: LatencyTable, folder: Path) -> None:
    address = f"{site.url}/t.jsonl.gz"
    home.find_table(address)
    site.short.add("/t.jsonl.gz")
    site.files["/t.jsonl.gz"] += b"changed"
    assert home.open_table(address).hash == table.hash  # broken off
    (cached,) = folder.glob("*.jsonl")
    cached.write_bytes(b"damaged later")
    with pytest.raises(UnreachableError):
        home.open_table(address)


def test_a_server_that_is_not_there_is_named_unless_the_table_was_fetched(folder: Path, table: LatencyTable) -> None:
    site = Site({"/t": pack.pack(table)})
    server = serve(site, None)  # on this machine plain http will do
    assert home.open_table(f"{site.url}/t").hash == table.hash
    server.shutdown()
    server.server_close()
    assert home.open_table(f"{site.url}/t").hash == table.hash
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        home.open_table(f"{site.url}/other")
    assert "give a path" in caught.value.mend


def test_a_pinned_table_is_asked_for_once_and_has_to_be_that_one(site: Site, table: LatencyTable, folder: Path) -> None:
    digest = pack.sha256(table.path.read_bytes())
    for _ in range(2):
        assert home.open_table(f"{site.url}/t.jsonl.gz#sha256={digest}").hash == table.hash
    assert len(site.asked) == 1
    with pytest.raises(DamagedTableError, match="was asked for"):
        home.open_table(f"{site.url}/t.jsonl#sha256={'0' * 64}")


def test_what_is_refused_leaves_nothing_in_the_cache(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files |= {"/page": b"<html></html>\n", "/cut": site.files["/t.jsonl.gz"][:-9], "/large": bytes(2000)}
    site.short.add("/t.jsonl")
    for path, error, what in (
        ("/page", DamagedTableError, "cannot be used"),
        ("/cut", DamagedTableError, "cut off"),
        ("/nowhere", DownloadError, r"answers 404 \(Not Found\)"),
        ("/t.jsonl", UnreachableError, "cannot be reached"),
    ):
        with pytest.raises(error, match=what) as caught:
            home.open_table(site.url + path)
        assert "\x1b" not in str(caught.value)
    monkeypatch.setattr(remote, "MAX_BYTES", 1000)
    with pytest.raises(DamagedTableError, match="more than 1,000"):
        home.open_table(f"{site.url}/large")
    assert not folder.exists()


def test_a_certificate_that_nobody_vouches_for_is_refused_also_with_the_table_in_the_cache(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.open_table(f"{site.url}/t.jsonl")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DownloadError, match="no secure connection") as caught:
        home.open_table(f"{site.url}/t.jsonl")
    assert not isinstance(caught.value, UnreachableError)
    assert "SSL_CERT_FILE" in caught.value.mend


def test_redirections_lead_to_https_only(site: Site, table: LatencyTable) -> None:
    site.redirects = {
        "/near": "/t.jsonl",
        "/far": f"{site.url}/t.jsonl.gz",
        "/file": "file:///etc/passwd",
        "/ftp": "ftp://127.0.0.1/t",
        "/http": f"http://127.0.0.1:{site.url.rpartition(':')[2]}/t.jsonl",
        "/round": "/round",
    }
    for path in ("/near", "/far"):
        assert home.open_table(site.url + path).hash == table.hash
    refused = {"/file": "302", "/ftp": "not supported", "/http": "it is not https", "/round": "302"}
    for path, why in refused.items():
        with pytest.raises(DownloadError, match=why):
            home.open_table(site.url + path)


def test_a_table_on_the_hub_is_found_by_owner_repo_and_revision(
    site: Site, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{site.url}/")
    site.files["/datasets/me/tables/resolve/main/cpu/t.jsonl"] = site.files["/t.jsonl"]
    site.redirects["/me/model/resolve/refs%2Fpr%2F1/t.gz"] = "/t.jsonl.gz"
    assert home.open_table("hf://datasets/me/tables/cpu/t.jsonl").hash == table.hash
    assert home.open_table("hf://me/model/t.gz@refs/pr/1").hash == table.hash


def test_the_hub_is_that_of_hugging_face_unless_another_is_named(folder: Path) -> None:
    assert (
        Address.parse("hf://datasets/me/tables/a b.jsonl@v1").url
        == "https://huggingface.co/datasets/me/tables/resolve/v1/a%20b.jsonl"
    )
    assert Address.parse(f"hf://me/m/t#sha256={'a' * 64}") == Address(
        "https://huggingface.co/me/m/resolve/main/t", "a" * 64
    )


@pytest.mark.parametrize(
    "text",
    [
        "ftp://example.org/t",
        "file:///etc/passwd",
        "http://example.org/t",
        "http://127.0.0.1.example.org/t",
        "https://",
        "https://example.org:port/t",
        "https://[::1/t",
        "https://example.org/a b",
        "https://example.org/\x1b[2J",
        "https://exämple.org/t",
        "https://example.org/t#part",
        "https://example.org/t#sha256=12",
        "hf://me/model",
        "hf://me/../../t/x/../y",
        "s3://bucket/t",
    ],
)
def test_what_is_no_address_is_said_to_be_none(folder: Path, text: str) -> None:
    with pytest.raises(AddressError) as caught:
        home.open_table(text)
    assert caught.value.misuse
    assert caught.value.mend
    assert "\x1b" not in str(caught.value)
    assert not folder.exists()


def test_a_hub_that_is_not_safe_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://example.org")
    with pytest.raises(AddressError, match="http can be changed on its way"):
        home.open_table("hf://me/model/t")


def test_a_damaged_note_of_what_came_from_an_address_costs_nothing_but_the_download(
    site: Site, table: LatencyTable, folder: Path
) -> None:
    home.open_table(f"{site.url}/t.jsonl")
    (note,) = (folder / "addresses").iterdir()
    assert json.loads(note.read_text())["url"] == f"{site.url}/t.jsonl"
    for damage in ("{", "[]", "{}", ""):
        note.write_text(damage)
        assert home.open_table(f"{site.url}/t.jsonl").hash == table.hash


def test_what_speaks_no_http_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(remote, "TIMEOUT_S", 0.2)
        with pytest.raises(UnreachableError):
            home.open_table(f"http://127.0.0.1:{port}/t")

        def answer() -> None:
            connection, _ = silent.accept()
            connection.close()
            connection, _ = silent.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example.org\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DownloadError):
            home.open_table(f"http://127.0.0.1:{port}/t")
        thread.join()
