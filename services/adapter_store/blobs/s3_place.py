"""Where in object storage blobs lie, as `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` says. Opens nothing."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

DEFAULT_ENDPOINT = "https://s3.amazonaws.com"
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Endpoint:
    """One server. `ca_file` is the authority that vouches for it; None: those that the system trusts."""

    host: str
    secure: bool
    region: str = DEFAULT_REGION
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and a prefix in it; `prefix` is empty or ends in a slash."""

    endpoint: S3Endpoint
    bucket: str
    prefix: str


def parse_endpoint(url: str, region: str = DEFAULT_REGION, ca_file: Path | None = None) -> S3Endpoint:
    """`http://HOST:PORT` or `https://HOST`. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is no endpoint: give http://HOST:PORT or https://HOST")
    if parts.username or parts.password:
        raise ValueError("the endpoint must not hold credentials: give them in the environment or a file")
    if ca_file is not None and parts.scheme != "https":
        raise ValueError(f"a CA file is given, but {url} is not https")
    return S3Endpoint(parts.netloc, parts.scheme == "https", region, ca_file)


def parse_s3_url(url: str, ca_file: Path | None = None) -> S3Place:
    """The place that `url` names. Raises ValueError saying what is wrong."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"{url!r} is no s3://BUCKET/PREFIX?endpoint=URL&region=NAME")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"endpoint", "region"})
    if unknown:
        raise ValueError(f"{url!r}: {unknown[0]!r} is not known; there are endpoint and region")
    region = options.get("region") or DEFAULT_REGION
    endpoint = parse_endpoint(options.get("endpoint") or DEFAULT_ENDPOINT, region, ca_file)
    prefix = unquote(parts.path).strip("/")
    return S3Place(endpoint, parts.netloc, f"{prefix}/" if prefix else "")
