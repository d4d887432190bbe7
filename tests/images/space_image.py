"""Build and run the Space's image: `make image-test`. It takes minutes and is not in `make test`.

The bundled kronos-nano replaces the download of Kronos-mini; the containers have no network.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kronos_space
from tests.support import containers
from tests.support.containers import build, podman, start

CONTEXT = Path(kronos_space.__file__).parent
IMAGE = "localhost/kronos-space"
READ_ONLY = ("--read-only", "--tmpfs", "/tmp", "--env", "KRONOS_MODEL=kronos-nano")

ASK = """
import json, urllib.request as http
space = "http://127.0.0.1:7860"
document = json.load(http.urlopen(space + "/openapi.json"))
[request] = document["components"]["schemas"]["ForecastRequest"]["examples"][:1]
headers = {"Content-Type": "application/json"}
answer = http.urlopen(http.Request(space + "/predict", json.dumps(request).encode(), headers))
print(answer.read().decode())
"""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """The PyTorch index, without which the image cannot be built."""
    try:
        containers.prepare()
    except containers.Unavailable as error:
        pytest.exit(f"make image-test: {error}", returncode=1)
    yield containers.torch_index(CONTEXT / "Dockerfile")
    containers.release()


@pytest.fixture(scope="module")
def image(index: str) -> str:
    started = time.monotonic()
    build(CONTEXT, IMAGE, KRONOS_BAKE="", TORCH_INDEX_URL=index)
    print(f"\nbuilt in {time.monotonic() - started:.0f} s")
    return IMAGE


@pytest.fixture(scope="module")
def space(image: str) -> Iterator[str]:
    """A running container with a read-only disk that answers requests."""
    started = time.monotonic()
    container = start(image, *READ_ONLY)
    while not (health := _health_check(container)):
        assert _running(container), podman("logs", container)
        assert time.monotonic() < started + 60, "no health within a minute"
        time.sleep(0.2)
    assert health
    print(f"\nhealthy {time.monotonic() - started:.1f} s after its start")
    yield container
    podman("rm", "--force", container)


def test_the_image_forecasts_without_a_network_on_a_read_only_disk(space: str) -> None:
    answer = json.loads(podman("exec", space, "python", "-c", ASK))
    assert answer["model"] == "kronos-nano"
    assert all(row["low"] <= row["close"] <= row["high"] for row in answer["predictions"])


def test_the_image_does_not_run_as_root(space: str) -> None:
    assert podman("exec", space, "id", "-u").strip() == "1000"
    assert podman("exec", space, "stat", "-c", "%u", "/home/user/.cache/huggingface") == "1000\n"


def test_the_image_contains_no_compiler_cache_or_gpu_files(space: str) -> None:
    left = podman("exec", "--user", "root", space, "sh", "-c",
        "for tool in cc gcc g++ clang make; do command -v $tool; done; "
        "find / -xdev '(' -name '*.whl' -o -path '*/.cache/pip' -o -name 'nvidia*' ')' "
        "-not -path '/proc/*' -not -path '/sys/*' -not -path '/usr/share/python-wheels/*'; true",
    )  # fmt: skip
    assert [line for line in left.splitlines() if "No such file" not in line] == []


def test_a_start_compiles_no_python_files(image: str) -> None:
    """All modules of the service have bytecode in the image: user 1000 could not store it."""
    code = "import kronos_space.__main__, kronos_space.server.connection, kronos_space.app; "
    code += "import pathlib, sys; "
    code += "files = [vars(m).get('__cached__') for m in list(sys.modules.values())]; "
    code += "print([f for f in files if f and not pathlib.Path(f).exists()])"
    container = start(image, command=("python", "-B", "-c", code))
    assert _finished(container) == (0, "[]\n")


def test_the_container_stops_cleanly_on_a_signal(image: str) -> None:
    container = start(image, *READ_ONLY)
    while not _health_check(container):
        time.sleep(0.2)
    podman("stop", "--time", "20", container)
    status, log = _finished(container)
    assert status == 0, log


def test_a_model_outside_the_image_is_requested_from_the_hub_or_reported_missing(
    image: str,
) -> None:
    status, log = _finished(start(image))  # the default is Kronos-mini, which is not in the image
    assert status == 1
    *_, line = log.splitlines()  # earlier lines report the client's attempts
    assert json.loads(line)["message"].startswith(
        "NeoQuasar/Kronos-mini@f4e68697 is not available from the Hub"
    )


def test_a_build_fails_if_the_model_to_bake_is_unavailable(image: str, index: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        build(CONTEXT, f"{IMAGE}:none", KRONOS_BAKE="kronos-maxi", TORCH_INDEX_URL=index)
    assert "kronos_space: 'kronos-maxi': expected one of kronos-mini" in failure.value.output


def test_the_image_is_small(image: str) -> None:
    whole, base = containers.size(image), containers.size(containers.BASE)
    print(f"\nimage {whole / 1e6:.0f} MB, {(whole - base) / 1e6:.0f} MB of them above the base")
    assert whole - base < 600e6


def _health_check(container: str) -> bool:
    """Run the Dockerfile's HEALTHCHECK in the container."""
    check = json.loads(podman("image", "inspect", IMAGE, "--format", "{{json .HealthCheck.Test}}"))
    assert check[0] == "CMD"
    try:
        podman("exec", container, *check[1:])
    except subprocess.CalledProcessError:
        return False
    return True


def _running(container: str) -> bool:
    return podman("inspect", container, "--format", "{{.State.Running}}").strip() == "true"


def _finished(container: str) -> tuple[int, str]:
    status = int(podman("wait", container))
    log = podman("logs", container)
    podman("rm", container)
    return status, log
