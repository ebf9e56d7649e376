"""The wheel holds what it should and works where the repository is not."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("client", "kernels", "protos", "services")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that the repository gets no build output. No network."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "multilora.py", "pyproject.toml", "README.md"):
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)),
        ],
        check=True,
        timeout=110,
    )
    (path,) = out.glob("multilora-*.whl")
    return path


def test_it_holds_every_module_and_the_wire(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / package).rglob("*.py")}
        assert modules <= names
    assert "multilora.py" in names
    for name in ("inference", "adapter_store", "error_reason"):
        assert {f"protos/multilora/v1/{name}{end}" for end in (".proto", "_pb2.py", "_pb2.pyi")} <= names
    assert "client/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "demo/"))]


def test_it_works_in_a_clean_directory(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    check = (
        "import multilora, client.command.app, services.adapter_store.__main__, services.inference.__main__, "
        f"kernels.sgmv; assert multilora.__file__.startswith({str(tmp_path)!r}); "
        "print(sorted(multilora.__all__)[:1], multilora.InferenceClient)"
    )
    # -I: neither the current directory nor PYTHONPATH; only site-packages for the dependencies.
    isolated = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {check}"]
    done = subprocess.run(isolated, capture_output=True, text=True, cwd=tmp_path, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    entry_points = next(tmp_path.glob("multilora-*.dist-info/entry_points.txt")).read_text()
    assert "multilora = client.command.app:main" in entry_points
