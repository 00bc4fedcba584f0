"""Tables at an address: fetched, checked, kept, and there again without a network.

``https://...``, or ``hf://[datasets/]OWNER/REPO/PATH[@REVISION]`` on the Hugging Face Hub (``HF_ENDPOINT`` names
another); ``#sha256=HASH`` behind either says which content it has to be. Plain http is for this machine only.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from latency_tables.errors import AddressError, DownloadError, UnreachableError
from latency_tables.foreign import admit, cached
from latency_tables.pack import MAX_BYTES, refusal, sha256
from profilers.files import read_text, write_atomic

TIMEOUT_S, TOTAL_S = 30, 600
"""Without a byte, and for the whole file."""
LOCAL = ("localhost", "127.0.0.1", "::1")
CHUNK = 2**16
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)
_HF = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[^@#?]+)(?:@(?P<revision>[^@#?]+))?", re.ASCII
)
_PIN = re.compile(r"sha256=([0-9a-f]{64})")
_HELP = "give --table a path, https://HOST/PATH or hf://[datasets/]OWNER/REPO/PATH[@REVISION]"


@dataclass(frozen=True)
class Address:
    """Where a table is: the URL to ask, and the hash of its content where that is known."""

    url: str
    pin: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ``AddressError`` for what is not to be fetched."""
        place, marked, fragment = text.partition("#")
        pin = _PIN.fullmatch(fragment)
        if marked and pin is None:
            raise AddressError(f"{fragment!r} says no hash of {place}", mend="write #sha256= and its 64 digits")
        if place.startswith("hf://"):
            place = _hub(place)
        if why := _forbidden(place):
            raise AddressError(f"{text!r} is no address of a table: {why}", mend=_HELP)
        return cls(place, pin[1] if pin else None)


def is_address(name: str) -> bool:
    """Whether this is an address (of whatever kind) and not a path."""
    return _ADDRESS.fullmatch(name) is not None


def fetch(text: str, folder: Path) -> Path:
    """The plain file of the table at this address, from the cache in ``folder`` where that will do.

    A pinned table that is in the cache is not asked for again. Any other is, with the tag of the last answer; if the
    server cannot be reached, the table that came from there last is taken.

    Raises:
        AddressError: If the address is none, or not a safe one.
        DownloadError: If nothing could be fetched.
        DamagedTableError: If what was fetched is no table, or another than the one that was pinned.
    """
    address = Address.parse(text)
    if address.pin and (known := cached(address.pin, folder)):
        return known
    note = folder / "addresses" / f"{sha256(address.url.encode())}.json"
    digest, tag = _noted(note)
    known = cached(digest, folder)
    if known is not None and address.pin not in (None, digest):
        known = None
    try:
        answer = _download(address.url, tag if known else "")
    except UnreachableError:
        if known is None:
            raise
        return known
    if answer is None:
        assert known is not None  # without it no tag was sent
        return known
    data, tag = answer
    path = admit(data, text, folder, address.pin)
    write_atomic(note, json.dumps({"url": address.url, "sha256": path.stem, "tag": tag}) + "\n")
    return path


def _noted(note: Path) -> tuple[str, str]:
    """Hash and tag of what came from an address last; empty where nothing did, or the note is damaged."""
    if not note.is_file():
        return "", ""
    try:
        content = json.loads(read_text(note))
        return str(content["sha256"]), str(content["tag"])
    except (ValueError, KeyError, TypeError):  # it is a cache: the table is fetched again and the note written anew
        return "", ""


def _hub(text: str) -> str:
    match = _HF.fullmatch(text)
    if match is None or ".." in match["path"].split("/"):
        raise AddressError(f"{text!r} names no file on the Hugging Face Hub", mend=_HELP)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    revision = quote(match["revision"] or "main", safe="")
    return f"{endpoint.rstrip('/')}/{match['datasets'] or ''}{match['repo']}/resolve/{revision}/{quote(match['path'])}"


def _forbidden(url: str) -> str | None:
    """Why this URL is not asked for; None where it may be."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "it has characters that have to be written as %XX"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port raises where it is no number
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("https", "http"):
        return f"{parts.scheme}:// is not supported"
    if parts.scheme == "http" and host not in LOCAL:
        return "http can be changed on its way; use https"
    return None if host else "it names no host"


class _Redirects(HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        why = _forbidden(newurl) or ("" if newurl.startswith("https://") else "it is not https")
        if why:
            raise DownloadError(f"{req.full_url} leads to {newurl[:200]!r}: {why}", mend=_HELP)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, tag: str) -> tuple[bytes, str] | None:
    """The file at a URL and the tag of this version; None where it still is the version of the tag that was given."""
    headers = {"User-Agent": "unas-hw", **({"If-None-Match": tag} if tag else {})}
    away = UnreachableError(f"{url} cannot be reached", mend="check the network, or fetch it elsewhere and give a path")
    try:
        with build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT_S) as response:
            found = response.headers.get("ETag", "")
            data = _body(response, url)
            if response.length:  # what is missing of the length that was announced; reading piecewise does not tell
                raise http.client.IncompleteRead(data)
            return data, found if found.isascii() and found.isprintable() else ""
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.NOT_MODIFIED:
            return None
        phrase = next((status.phrase for status in HTTPStatus if status == error.code), "no known status")
        raise DownloadError(
            f"{url}: the server answers {error.code} ({phrase})",
            mend="check the address; a private table has to be fetched by hand and given as a path",
        ) from error
    except (URLError, ssl.SSLError) as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLError) or isinstance(error, ssl.SSLError):
            raise DownloadError(
                f"{url}: no secure connection: {reason}",
                mend="SSL_CERT_FILE=FILE names the certificates to trust where they are not the system's",
            ) from error
        raise away from error
    except http.client.IncompleteRead as error:
        raise away from error
    except http.client.HTTPException as error:
        raise DownloadError(
            f"{url} does not answer as a web server does: {type(error).__name__}", mend=_HELP
        ) from error
    except OSError as error:  # reset or timed out within the file
        raise away from error


def _body(response: IO[bytes], url: str) -> bytes:
    data, begin = bytearray(), time.monotonic()
    while chunk := response.read(CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            raise refusal(url, f"it has more than {MAX_BYTES:,} bytes")
        if time.monotonic() - begin > TOTAL_S:
            raise TimeoutError(f"longer than {TOTAL_S} s")
    return bytes(data)
