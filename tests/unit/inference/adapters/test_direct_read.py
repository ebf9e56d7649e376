import hashlib
import io
import random
import threading

import pytest

from services.inference.adapters.direct_read import DirectReadError, DirectReads
from services.inference.request import AdapterFile
from tests.http_file import serve

DATA = random.Random(5).randbytes((5 << 20) + 77)
FILE = AdapterFile("adapter_model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def http():
    with serve(DATA) as file:
        yield file


def fetch(url, reads=None, cancelled=lambda: False):
    output = io.BytesIO()
    (reads or DirectReads()).fetch(url, FILE, output, cancelled)
    return output.getvalue()


def test_right_bytes_arrive(http):
    assert fetch(http.url) == DATA


@pytest.mark.parametrize(
    "body",
    [b"", DATA[:-1], DATA + b"x", DATA[:1000] + bytes([DATA[1000] ^ 1]) + DATA[1001:]],
    ids=["empty", "short", "long", "flipped"],
)
def test_wrong_bytes_are_told(http, body):
    http.body = body
    with pytest.raises(DirectReadError):
        fetch(http.url)


def test_a_file_that_takes_too_long_is_given_up(http):
    http.hang_after = 100
    with pytest.raises(DirectReadError, match="too slowly"):
        fetch(http.url, DirectReads(most_s=lambda num_bytes: 0.05))


@pytest.mark.parametrize("status", [206, 301, 403, 404, 503])
def test_any_other_status_is_a_failure(http, status):
    http.status = status
    with pytest.raises(DirectReadError, match=str(status)):
        fetch(http.url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "ftp://host/x",
        "http://",
        "http://127.0.0.1:1/x",
        "http://[::1",
        "http://h:x/",
    ],
)
def test_what_cannot_be_fetched_is_told(url):
    with pytest.raises(DirectReadError):
        fetch(url)


def test_https_needs_a_certificate_that_somebody_vouches_for(http, tmp_path):
    url = http.url.replace("http:", "https:")
    for reads in (DirectReads(), DirectReads(tmp_path / "missing.pem")):
        with pytest.raises(DirectReadError):
            fetch(url, reads)


def test_a_cancelled_fetch_stops(http):
    with pytest.raises(DirectReadError, match="stopping"):
        fetch(http.url, cancelled=lambda: True)


def test_close_ends_what_runs_and_what_comes(http):
    http.hang_after = 100
    reads, failures = DirectReads(), []

    def run():
        try:
            fetch(http.url, reads)
        except DirectReadError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert http.hanging.wait(10)
    reads.close()
    thread.join(10)
    assert len(failures) == 1
    with pytest.raises(DirectReadError, match="stopping"):
        fetch(http.url, reads)
