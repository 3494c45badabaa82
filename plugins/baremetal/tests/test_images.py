"""An image runs only after the rack host itself has hashed what its digest names."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio import to_thread
from attrs import evolve

from compute_bridge.model.boot import FilePath
from compute_bridge.model.manifest import ImageRef
from compute_bridge.ports.backend import Instance
from compute_bridge.ports.errors import UnavailableError, UnservableError
from compute_bridge_baremetal.config import RackImage
from compute_bridge_baremetal.images import open_archive
from compute_bridge_baremetal.testing.image import GuestImage, build_image
from compute_bridge_baremetal.testing.podman_world import PodmanWorld, Store, podman_world

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs("sshd", "openssh-client", "podman", "nft"),
]

Change = Callable[[dict[str, bytes]], None]


def rewritten(image: GuestImage, path: Path, change: Change) -> Path:
    """Write a copy of the archive whose members ``change`` has had its way with."""
    with tarfile.open(image.archive) as archive:
        members = {member.name: read(archive, member) for member in archive if member.isfile()}
    change(members)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def flip_largest(members: dict[str, bytes]) -> None:
    layer = max(members, key=lambda name: len(members[name]))
    members[layer] = members[layer][:-1] + bytes([members[layer][-1] ^ 1])


def drop_largest(members: dict[str, bytes]) -> None:
    del members[max(members, key=lambda name: len(members[name]))]


def point_elsewhere(members: dict[str, bytes]) -> None:
    other = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    members["index.json"] = members["index.json"].replace(b'"size"', b'"annotations":{},"size"')
    members[f"blobs/sha256/{hashlib.sha256(other).hexdigest()}"] = other


@pytest.fixture
def world(tmp_path: Path, store: Store) -> Iterator[PodmanWorld]:
    """Run one rack host that has had no image verified."""
    with podman_world(tmp_path, store, machines=1) as world:
        for mark in (world.state_of(0) / "images").glob("*"):
            mark.unlink()
        yield world


async def provision(world: PodmanWorld, archive: Path, digest: str) -> Instance:
    image = RackImage(digest=f"oci@sha256:{digest}", archive=FilePath(str(archive)))
    world.config = evolve(world.config, images=(image,))
    async with world.open() as backend:
        order = world.order((await backend.offers())[0])
        return await backend.provision(evolve(order, image=ImageRef(image.digest)))


async def test_an_image_is_brought_once(world: PodmanWorld, store: Store):
    archive = store.folder / "moved.tar"
    archive.write_bytes(await to_thread.run_sync(store.image.archive.read_bytes))
    await provision(world, archive, store.image.digest)
    archive.unlink()
    again = await provision(world, archive, store.image.digest)

    assert again.image_digest.hex() == store.image.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip_largest, "the bytes of blob sha256:[0-9a-f]{64} do not match their digest"),
        (drop_largest, "the archive lacks blob sha256:[0-9a-f]{64}"),
    ],
)
async def test_the_rack_host_refuses_bytes_that_do_not_match(
    tmp_path: Path, world: PodmanWorld, store: Store, change: Change, said: str
):
    archive = rewritten(store.image, tmp_path / "changed.tar", change)

    with pytest.raises(UnservableError, match=said):
        await provision(world, archive, store.image.digest)
    assert await world.running() == frozenset()


async def test_what_an_index_says_beside_the_digest_changes_nothing(tmp_path: Path, world: PodmanWorld, store: Store):
    archive = rewritten(store.image, tmp_path / "changed.tar", point_elsewhere)

    assert (await provision(world, archive, store.image.digest)).image_digest.hex() == store.image.digest


async def test_an_archive_of_another_image_is_refused_at_the_bridge(tmp_path: Path, world: PodmanWorld, store: Store):
    other = await to_thread.run_sync(lambda: build_image(tmp_path, server=False))

    with pytest.raises(UnservableError, match=f"does not hold the manifest sha256:{store.image.digest}"):
        await provision(world, other.archive, store.image.digest)


async def test_an_image_without_a_server_is_refused(tmp_path: Path, world: PodmanWorld):
    bare = await to_thread.run_sync(lambda: build_image(tmp_path, server=False))

    with pytest.raises(UnservableError, match="the image has no /usr/sbin/sshd"):
        await provision(world, bare.archive, bare.digest)
    assert await world.running() == frozenset()


async def test_a_server_that_ends_at_once_is_refused_with_what_it_said(tmp_path: Path, world: PodmanWorld):
    accounts = {"etc/passwd": "root:x:0:0::/root:/bin/sh\nguest:x:9:9::/:/bin/sh\n"}
    image = await to_thread.run_sync(lambda: build_image(tmp_path, accounts=accounts))

    with pytest.raises(UnservableError, match="Privilege separation user sshd does not exist"):
        await provision(world, image.archive, image.digest)
    assert await world.running() == frozenset()


async def test_a_link_cut_under_an_image_leaves_no_half_image(world: PodmanWorld, store: Store):
    (world.sshds[0].folder / "cut").touch()

    with pytest.raises(UnavailableError):
        await provision(world, store.image.archive, store.image.digest)
    assert (await provision(world, store.image.archive, store.image.digest)).image_digest.hex() == store.image.digest
    left = await to_thread.run_sync(lambda: sorted(path.name for path in (world.state_of(0) / "images").iterdir()))
    assert left == [store.image.digest]


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b" + bytes(600)])
async def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes):
    path = tmp_path / "image.tar"
    path.write_bytes(data)

    with pytest.raises(UnservableError, match=f"image {path} "):
        await open_archive(path, "0" * 64, place="here")


async def test_the_digest_of_an_index_is_refused(tmp_path: Path):
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    digest = hashlib.sha256(index).hexdigest()
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo(f"blobs/sha256/{digest}")
        entry.size = len(index)
        archive.addfile(entry, io.BytesIO(index))

    with pytest.raises(UnservableError, match="the digest may be that of an index"):
        await open_archive(path, digest, place="here")
