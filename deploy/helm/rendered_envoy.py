"""Prints Envoy's configuration out of rendered templates, with its files in the directory given second."""

import sys
from pathlib import Path

import yaml


def main(rendered: Path, directory: Path) -> None:
    """Also writes the certificate's file there, if the templates have one."""
    objects = [each for each in yaml.safe_load_all(rendered.read_text()) if each]
    (data,) = (
        each["data"] for each in objects if each["kind"] == "ConfigMap" and "envoy.yaml" in each["data"]
    )
    certificate = directory / "certificate.yaml"
    certificate.write_text(data.get("certificate.yaml", "").replace("/tls", str(directory)))
    config = data["envoy.yaml"].replace("/tls/", f"{directory}/")
    print(config.replace("/etc/envoy/certificate.yaml", str(certificate)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
