"""The queries against a real Prometheus that scrapes an exporter of ours."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.ports import free_port

from sublet.demand.feeds.prometheus import PrometheusCollector, PrometheusError, PrometheusUnreachableError, query_of
from sublet.values.clock import SystemClock

pytestmark = pytest.mark.real
WAIT_S = 60

METRICS = """\
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",device="nvidia0",Hostname="gpu-1"} 0.9
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",device="nvidia1",Hostname="gpu-1"} 0.0
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",device="nvidia2",hostname="gpu-2"} 0.01
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",device="nvidia3",hostname="gpu-2"} 0.8
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",device="nvidia0",hostname="other"} 0.0
slurm_gpus_alloc{partition="a100"} 5
slurm_gpus_alloc{partition="h100"} 3
kube_node_status_allocatable{resource="nvidia_com_gpu",node="n1"} 8
kube_node_status_allocatable{resource="nvidia_com_gpu",node="n2"} 8
kube_pod_container_resource_requests{resource="nvidia_com_gpu",namespace="vision",node="n1"} 3
kube_pod_container_resource_requests{resource="nvidia_com_gpu",namespace="sublet-x",node="n1"} 4
kube_pod_container_resource_requests{resource="nvidia_com_gpu",namespace="nlp",node=""} 16
kube_pod_container_resource_requests{resource="cpu",namespace="nlp",node="n2"} 7
"""


class Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = METRICS.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus on this machine")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: gpus\n  honor_labels: true\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{exporter.server_port}']}}]\n"
    )
    port = free_port()
    server = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_samples(address)
        yield address
    finally:
        server.kill()
        server.wait()
        exporter.shutdown()


def wait_for_samples(url: str) -> None:
    """Until it has scraped; while it starts it refuses connections first, then answers 503 for a moment."""
    deadline = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(PrometheusUnreachableError):
            if seen(url, "", "", in_use="slurm_gpus_alloc{partition='a100'}"):
                return
        assert time.monotonic() < deadline, "nothing was scraped"
        time.sleep(0.1)


def seen(url: str, exporter: str, select: str, *held: str, in_use: str = "") -> list[tuple[float, float, float]]:
    """Capacity, in use and pending of the last seconds."""
    now = SystemClock().now()
    query = query_of(exporter, select, in_use, "", "", 8, held)
    found = PrometheusCollector(url).samples(query, now - timedelta(seconds=1), now, 1)
    return [(item.capacity, item.in_use, item.pending) for item in found]


@pytest.mark.parametrize(
    ("exporter", "select", "held", "wanted"),
    [
        # Eight of the pool; two of the four that report are idle, and the four that don't report count as used.
        ("dcgm", "gpu-.*", (), (8, 6, 0)),
        # What tenants hold is nobody's demand, busy or idle.
        ("dcgm", "gpu-.*", ("nvidia:3",), (8, 5, 0)),
        ("dcgm", "gpu-.*", ("nvidia:1", "nvidia:2"), (8, 6, 0)),
        ("slurm", "a100", (), (8, 5, 0)),
        ("kubernetes", "n.*", (), (16, 3, 16)),
        ("kubernetes", "n2", (), (8, 0, 16)),
    ],
)
def test_an_exporters_metrics_are_demand(
    url: str, exporter: str, select: str, held: tuple[str, ...], wanted: tuple[float, float, float]
) -> None:
    assert seen(url, exporter, select, *held)[-1] == wanted


@pytest.mark.parametrize(("exporter", "select"), [("dcgm", "gone-.*"), ("kubernetes", "gone.*")])
def test_where_nothing_reports_there_is_no_sample(url: str, exporter: str, select: str) -> None:
    assert seen(url, exporter, select) == []


def test_several_series_are_refused(url: str) -> None:
    with pytest.raises(PrometheusError, match="returns 2 series; wrap it in sum"):
        seen(url, "", "", in_use="slurm_gpus_alloc")
