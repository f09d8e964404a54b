"""Is the harness itself in that container? As the engine's own machine and a container show it in /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.containers.container import runs_us

ID = "4f" * 32
HOST = "0::/user.slice/user-0.slice/session-1.scope\n"


def proc(folder: Path, cgroup: str, *mounts: str) -> Path:
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(
        "".join(f"{mount} rw,relatime shared:1 - ext4 /dev/sda1 rw\n" for mount in mounts)
    )
    return folder


@pytest.mark.parametrize(
    "mount",
    [
        f"90 30 0:60 / /var/lib/docker/rootfs/overlayfs/{ID}",  # engine 29, containerd's image store
        f"91 30 0:61 / /var/lib/docker/containers/{ID}/mounts/shm",  # ipc: shareable
        f"92 30 0:4 net:[4026532500] /run/docker/netns/{ID[:12]}",
    ],
)
def test_a_container_that_runs_beside_us_is_not_ours(tmp_path: Path, mount: str) -> None:
    assert not runs_us(ID, proc(tmp_path, HOST, "21 1 8:1 / /", mount))


@pytest.mark.parametrize(
    ("cgroup", "mount"),
    [
        (f"12:cpu,cpuacct:/docker/{ID}\n", "21 1 8:1 / /"),  # cgroup v1
        ("0::/\n", f"95 80 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname"),  # v2, a namespace of its own
        (
            "0::/\n",
            f"95 80 8:1 /containers/{ID}/resolv.conf /etc/resolv.conf",
        ),  # /var/lib/docker is a disk
    ],
)
def test_from_within_it_is(tmp_path: Path, cgroup: str, mount: str) -> None:
    assert runs_us(ID, proc(tmp_path, cgroup, mount))
    assert not runs_us("5e" * 32, tmp_path)


def test_where_there_is_no_proc_nothing_is_claimed(tmp_path: Path) -> None:
    assert not runs_us(ID, tmp_path / "absent")
