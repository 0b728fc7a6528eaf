"""The mirror of a lab: what its proxy fetched becomes an archive, which serves another lab without a connection."""

from __future__ import annotations

import hashlib
import json
import lzma
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.commands import cli
from stackspec.errors import InputError
from stackspec.lab import Lab, LabError, kernel, partial_mirror, proxy, rootfs, service
from stackspec.lab.guest import TEST_GUEST
from stackspec.lab.image import Recipe
from stackspec.lab.mirror import Mirror, choose, path_of
from stackspec.lab.partial_mirror import Result, Wanted, names_of
from stackspec.lab.state import Folder, State

from .proxy_client import get
from .small_lab import OWN_KERNEL, SITE, load

SUITES = {"debian": ("trixie", "trixie-updates", "forky"), "debian-security": ("trixie-security",)}


def deb(name: str, version: str, suite: str = "trixie") -> tuple[str, bytes]:
    """The path of a package in its archive, and its content."""
    return f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb", f"{name} {version} {suite}".encode() * 100


class Origin:
    """A site with two archives, in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        for archive, suites in SUITES.items():
            for suite in suites:
                self.publish(archive, suite)
        self.publish("debian", "trixie", "nova=1+b1", "glance=1", "base=1")
        self.publish("debian-security", "trixie-security", "nova=1+b2", "other=2")
        self.publish("debian", "forky", "nova=9", "linux=9")
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        base = f"http://127.0.0.1:{self.server.server_port}"
        self.mirror = Mirror(f"{base}/debian", f"{base}/debian-security")

    def publish(self, archive: str, suite: str, *packages: str) -> None:
        stanzas = []
        for name, version in (each.split("=") for each in packages):
            path, content = deb(name, version, suite)
            file = self.root / archive / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            stanzas.append(f"Package: {name}\nFilename: {path}\nSize: {len(content)}\nSHA256: {sha256}\n")
        index = lzma.compress("\n".join(stanzas).encode())
        sha256 = hashlib.sha256(index).hexdigest()
        dists = self.root / archive / "dists" / suite
        by_hash = dists / f"main/binary-amd64/by-hash/SHA256/{sha256}"
        by_hash.parent.mkdir(parents=True, exist_ok=True)
        by_hash.write_bytes(index)
        listed = f" {sha256} {len(index)} main/binary-amd64/Packages.xz\n"
        (dists / "InRelease").write_text(f"Suite: {suite}\nAcquire-By-Hash: yes\nSHA256:\n{listed}")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Site:
    """A lab whose root file system, kernel and nodes were made from an origin, without the nodes."""

    def __init__(self, tmp: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp / "cache"))
        monkeypatch.setenv("STACKSPEC_STATE", str(tmp / "state"))
        monkeypatch.setenv("STACKSPEC_MIRROR", origin.mirror.archive)
        monkeypatch.setattr(service, "_parents", dict)
        self.origin, self.inventory, self.folder = origin, tmp / "site.yaml", tmp / "mirror"
        self.inventory.write_text(OWN_KERNEL)
        self.cache, self.state = tmp / "cache", Folder(tmp / "state/lab/lab")
        name = rootfs.key("trixie")
        self.state.write(State(rootfs=name))
        status = rootfs.path_of(self.cache, name) / "var/lib/dpkg/status"
        status.parent.mkdir(parents=True)
        status.write_text("Package: base\nStatus: install ok installed\n")
        self.fetch(self.state.record, ("debian", "nova", "1%2bb1"))
        self.fetch(service.record_of(self.cache, kernel.key()), ("debian", "linux", "9"))

    def fetch(self, record: Path, *packages: tuple[str, str, str]) -> None:
        with proxy.serving(service.settings(self.cache, self.origin.mirror, record)) as server:
            base = self.origin.mirror.archive.removesuffix("/debian")
            for archive, name, version in packages:
                assert get(server.server_port, f"{base}/{archive}/{deb(name, version)[0]}")[0] == 200

    def write(self) -> Result:
        wanted = [
            Wanted(tuple(self.origin.mirror.suites()), names_of(proxy.recorded(self.state.record)) | {"base"}),
            Wanted(((self.origin.mirror.archive, "forky"),), frozenset({"linux"})),
        ]
        security = self.origin.mirror.security
        assert security
        archives = {self.origin.mirror.archive: "debian", security: "debian-security"}
        settings = service.settings(self.cache, self.origin.mirror)
        return partial_mirror.write(self.folder, "lab", archives, wanted, settings, print)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def packages(self) -> set[str]:
        return {name.rpartition("/")[2] for name in self.files() if name.endswith(".deb")}


PACKAGES = {"nova_1+b1_amd64.deb", "nova_1+b2_amd64.deb", "base_1_amd64.deb", "linux_9_amd64.deb"}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    made = Origin(tmp_path / "origin")
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, origin, monkeypatch)


class TestRecord:
    """The proxy notes each package once, whether it was fetched or cached."""

    def test_each_package_once(self, site: Site) -> None:
        before = site.state.record.read_text()
        site.fetch(site.state.record, ("debian", "nova", "1%2bb1"), ("debian", "glance", "1"))
        new = site.state.record.read_text().removeprefix(before)
        assert [line.rpartition("/")[2] for line in new.splitlines()] == ["glance_1_amd64.deb"]

    def test_what_another_lab_has_fetched(self, site: Site, tmp_path: Path) -> None:
        site.origin.asked.clear()
        site.fetch(tmp_path / "record", ("debian", "nova", "1%2bb1"))
        assert site.origin.asked == []
        assert names_of(proxy.recorded(tmp_path / "record")) == {"nova"}

    def test_not_what_the_archive_lacks(self, site: Site, tmp_path: Path) -> None:
        with proxy.serving(service.settings(site.cache, site.origin.mirror, tmp_path / "record")) as server:
            assert get(server.server_port, f"{site.origin.mirror.archive}/pool/x_1_all.deb")[0] == 404
        assert proxy.recorded(tmp_path / "record") == []

    def test_of_the_nodes_proxy(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lab's own proxy writes it, and serves what is a directory."""
        monkeypatch.setattr("stackspec.lab.service.cgroup.spawn", lambda *_: None)
        monkeypatch.setattr(service, "_wait_listening", lambda *_: None)
        monkeypatch.setattr(service, "_is_inside", lambda _: False)
        spec, mirror = load(site.cache, SITE), Mirror("file:///srv/debian", "http://m.test/debian-security")
        service.ensure(spec, site.state, site.cache / "group", site.cache, mirror)
        settings = json.loads((site.state.root / "proxy.json").read_text())
        assert settings["record"] == str(site.state.record)
        assert settings["folders"] == {"archive.mirror": "/srv/debian"}
        assert settings["hosts"] == {"m.test": "http"}
        assert not settings["quiet"]

    @pytest.mark.parametrize("everything", [False, True])
    def test_kept_until_the_lab_is_removed_for_good(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, everything: bool
    ) -> None:
        monkeypatch.setattr("stackspec.lab.lab.cgroup.kill", lambda *_: None)
        monkeypatch.setattr("stackspec.lab.lab.network.delete_all", lambda *_: None)
        fake: Any = SimpleNamespace(
            folder=site.state, group=None, spec=None, cache=site.cache / "rootfs", _halt=lambda: None
        )
        Lab.down(fake, everything)
        assert site.state.record.exists() is not everything


class TestWriting:
    """A mirror is written, completed and brought up to date by the same call."""

    def test_layout(self, site: Site) -> None:
        """A suite has the wanted packages that it lists, in all their versions, and the archive's own indexes."""
        result = site.write()
        files = site.files()
        assert site.packages() == PACKAGES
        assert f"debian-security/{deb('nova', '1+b2')[0]}" in files
        for archive, suites in SUITES.items():
            for suite in suites:
                index = f"{archive}/dists/{suite}/InRelease"
                assert files[index] == (site.origin.root / index).read_bytes()
                listed = [name for name in files if name.startswith(f"{archive}/dists/{suite}/main/")]
                assert [files[name] for name in listed] == [(site.origin.root / listed[0]).read_bytes()]
        assert result.files == len(files) - 1
        assert result.size == sum(map(len, files.values())) - len(files[partial_mirror.LIST])

    def test_second_time_changes_nothing(self, site: Site) -> None:
        site.write()
        before = site.files()
        site.origin.asked.clear()
        result = site.write()
        assert (result.written, result.removed) == (0, 0)
        assert site.files() == before
        assert {name.rpartition("/")[2] for name in site.origin.asked} == {"InRelease"}

    def test_cached_package_is_not_fetched_again(self, site: Site) -> None:
        site.origin.asked.clear()
        site.write()
        asked = {name.rpartition("/")[2] for name in site.origin.asked if name.endswith(".deb")}
        assert asked == {"nova_1%2Bb2_amd64.deb", "base_1_amd64.deb"}

    @pytest.mark.parametrize("loss", ["gone", "changed"])
    def test_package_that_the_cache_lost_is_fetched_again(self, site: Site, loss: str) -> None:
        cached = next(site.cache.rglob("nova_1+b1_amd64.deb"))
        cached.unlink() if loss == "gone" else cached.write_bytes(b"X" + cached.read_bytes()[1:])
        site.write()
        path, content = deb("nova", "1+b1")
        assert site.files()[f"debian/{path}"] == content

    def test_changed_byte_is_mended(self, site: Site) -> None:
        site.write()
        before = site.files()
        file = site.folder / "debian" / deb("nova", "1+b1")[0]
        file.write_bytes(b"X" + file.read_bytes()[1:])
        assert site.write().written == 1
        assert site.files() == before

    def test_archive_that_differs_from_its_index(self, site: Site) -> None:
        (site.origin.root / "debian" / deb("base", "1")[0]).write_bytes(b"something else")
        with pytest.raises(LabError, match=r"base_1_amd64.deb does not match the archive's index .* in some minutes"):
            site.write()
        assert "base_1_amd64.deb" not in site.packages()
        assert not list(site.folder.rglob("InRelease"))

    def test_killed(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a file has not the name of a whole one, and what is there is kept."""
        whole = Path.replace

        def killed(self: Path, target: Path) -> Path:
            if "nova_1+b2" in self.name:
                raise KeyboardInterrupt
            return whole(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", killed)
            # A real kill leaves the part.
            patched.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                site.write()
        assert list(site.folder.rglob(".nova_1+b2*.part"))
        assert "nova_1+b2_amd64.deb" not in site.packages()
        site.write()
        assert site.packages() == PACKAGES
        assert not list(site.folder.rglob(".*.part"))

    def test_newer_version_takes_the_place_of_the_old(self, site: Site) -> None:
        site.write()
        site.origin.publish("debian", "trixie", "nova=2", "base=1")
        result = site.write()
        assert site.packages() == PACKAGES - {"nova_1+b1_amd64.deb"} | {"nova_2_amd64.deb"}
        assert (result.written, result.removed) == (3, 2)

    def test_archive_that_is_away(self, site: Site) -> None:
        site.write()
        before = site.files()
        site.origin.close()
        with pytest.raises(LabError, match=r"Could not write the mirror .*: ConnectionRefused.* to continue"):
            site.write()
        assert site.files() == before

    def test_strange_names_are_refused(self, site: Site) -> None:
        dists = site.origin.root / "debian/dists/trixie"
        index = b"Package: nova\nFilename: pool/../../x.deb\nSize: 1\nSHA256: 0\n"
        sha256 = hashlib.sha256(index).hexdigest()
        (dists / "main/binary-amd64/Packages").write_bytes(index)
        (dists / "InRelease").write_text(f"SHA256:\n {sha256} {len(index)} main/binary-amd64/Packages\n")
        with pytest.raises(LabError, match=r"strange name pool/\.\./\.\./x\.deb"):
            site.write()

    def test_other_files(self, site: Site) -> None:
        site.folder.mkdir()
        (site.folder / "debian").mkdir()
        with pytest.raises(InputError, match="contains other files and is not a mirror"):
            site.write()

    def test_mirror_of_another_lab(self, site: Site) -> None:
        site.write()
        (site.folder / partial_mirror.LIST).write_text('{"lab": "other"}')
        with pytest.raises(InputError, match="is a mirror of lab other, not lab"):
            site.write()


@pytest.fixture
def command(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `stackspec lab mirror`, as root."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("stackspec.lab.lab.require", lambda *_: None)
    monkeypatch.setattr("stackspec.lab.lab.cgroup.root", lambda: site.cache)
    return lambda: cli.main(["lab", "mirror", "--inventory", str(site.inventory), str(site.folder)])


class TestCommand:
    def test_it_says_what_there_is_and_how_to_use_it(
        self, site: Site, command: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command() == 0
        out = capsys.readouterr().out
        assert site.packages() == PACKAGES
        assert f"`mirror: {site.folder}/debian`" in out
        assert "  deb [check-valid-until=no] http://SERVER/debian trixie main\n" in out
        assert "http://SERVER/debian-security trixie-security main\n" in out
        assert out.splitlines()[-1] == f"{site.folder}: 12 files, 0 MB, 12 new, 0 removed"
        assert command() == 0
        assert capsys.readouterr().out.endswith("12 files, 0 MB, no changes\n")

    def test_packages_of_images(self, site: Site, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
        for made in TEST_GUEST.records(site.cache):
            site.fetch(service.record_of(site.cache, made), ("debian", "glance", "1"))
        assert command() == 0
        out = capsys.readouterr().out
        assert "test-amphora was not built yet" in out
        assert "test-guest was" not in out
        assert site.packages() == PACKAGES | {"glance_1_amd64.deb"}

    def test_before_the_first_deployment(self, site: Site, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
        site.state.record.unlink()
        assert command() == 1
        assert "have fetched no packages. Deploy the site first" in capsys.readouterr().err

    def test_without_a_record_of_the_kernel(self, site: Site, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
        service.record_of(site.cache, kernel.key()).unlink()
        assert command() == 1
        assert "The kernel's packages are not known. Run: stackspec lab down" in capsys.readouterr().err

    def test_mirror_of_a_mirror(
        self, site: Site, command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command() == 0
        monkeypatch.setenv("STACKSPEC_MIRROR", f"{site.folder}/debian")
        assert command() == 4
        assert "is a directory" in capsys.readouterr().err


class TestUse:
    """A lab with a directory as its archive."""

    def test_served_without_the_origin(self, site: Site, tmp_path: Path) -> None:
        """Everything that apt asks comes from the directory, by addresses that the nodes' sources have."""
        site.write()
        site.origin.close()
        lab = replace(load(tmp_path, SITE), mirror=f"{site.folder}/debian")
        chosen = choose(lab, {})
        assert chosen is not None
        assert chosen.hosts() == {}
        assert chosen.lines(plain=True) == [
            "deb [check-valid-until=no] http://archive.mirror trixie main",
            "deb [check-valid-until=no] http://archive.mirror trixie-updates main",
            "deb [check-valid-until=no] http://security.mirror trixie-security main",
        ]
        record = tmp_path / "record"
        with proxy.serving(service.settings(tmp_path / "empty", chosen, record)) as server:
            for line in chosen.lines(plain=True):
                uri, suite = line.split()[2:4]
                status, release, _ = get(server.server_port, f"{uri}/dists/{suite}/InRelease")
                assert status == 200
                sha256 = release.decode().split()[-3]
                index = f"{uri}/dists/{suite}/main/binary-amd64/by-hash/SHA256/{sha256}"
                assert hashlib.sha256(get(server.server_port, index)[1]).hexdigest() == sha256
            path = deb("nova", "1%2bb2")[0]
            assert get(server.server_port, f"http://security.mirror/{path}")[:2] == (
                200,
                deb("nova", "1+b2", "trixie-security")[1],
            )
            assert get(server.server_port, f"http://archive.mirror/{deb('nova', '1%2bb1')[0]}", "HEAD")[:2] == (
                200,
                b"",
            )
            status, _, reason = get(server.server_port, "http://archive.mirror/pool/x_1_all.deb")
            assert (status, reason) == (
                404,
                f"{site.folder}/debian has no such file; make it again: stackspec lab mirror",
            )
            assert get(server.server_port, site.origin.mirror.archive)[0] == 403
        assert names_of(proxy.recorded(record)) == {"nova"}

    @pytest.mark.parametrize("path", ["../mirror.json", "%2e%2e/mirror.json", "link", "dists", ""])
    def test_nothing_beside_it_is_served(self, site: Site, path: str) -> None:
        site.write()
        (site.folder / "debian/link").symlink_to(site.inventory)
        mirror = Mirror(f"{site.folder.as_uri()}/debian")
        with proxy.serving(service.settings(site.cache, mirror)) as server:
            assert get(server.server_port, f"http://archive.mirror/{path}")[0] == 404

    def test_names(self, site: Site, tmp_path: Path) -> None:
        """A path and a file URL are the same; a mirror without a security archive has none."""
        site.write()
        spec = load(tmp_path, SITE)
        by_path = choose(spec, {"STACKSPEC_MIRROR": f"{site.folder}/debian/"})
        assert by_path is not None
        assert by_path == choose(replace(spec, mirror=f"{site.folder.as_uri()}/debian"), {})
        assert path_of(by_path.archive) == site.folder / "debian"
        (site.folder / "debian-security").rename(site.folder / "elsewhere")
        alone = choose(spec, {"STACKSPEC_MIRROR": f"{site.folder}/debian"})
        assert alone is not None
        assert alone.security is None
        named = choose(replace(spec, mirror=f"{site.folder}/debian", security_mirror=f"{site.folder}/elsewhere"), {})
        assert named is not None
        assert named.folders()["security.mirror"] == f"{site.folder}/elsewhere"

    @pytest.mark.parametrize(("suite", "below"), [("bookworm", "debian"), ("trixie", ".")])
    def test_directory_without_the_suite(self, site: Site, tmp_path: Path, suite: str, below: str) -> None:
        site.write()
        spec = replace(load(tmp_path, SITE), suite=suite, mirror=str(site.folder / below))
        with pytest.raises(InputError, match=rf"is not an archive with {suite}: .*dists/{suite}/InRelease is missing"):
            choose(spec, {})

    def test_root_file_system_is_made_from_it(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """mmdebstrap asks a proxy for the lab's archive, and the tree keeps the real address."""
        site.write()
        site.origin.close()
        mirror = choose(replace(load(tmp_path, SITE), mirror=f"{site.folder}/debian"), {})
        assert mirror is not None

        def run(argv: list[Any], *_: Any, **__: Any) -> str:
            words = [str(word) for word in argv]
            port = int(words[2].rpartition(":")[2])
            assert words[:2] == ["env", "no_proxy="]
            assert words[2].startswith("http_proxy=http://127.0.0.1:")
            uri, suite = words[-3].split()[2:4]
            assert get(port, f"{uri}/dists/{suite}/InRelease")[0] == 200
            (Path(words[words.index("trixie") + 1]) / "etc/apt").mkdir(parents=True)
            return ""

        monkeypatch.setattr(rootfs, "require", lambda *_: None)
        monkeypatch.setattr(rootfs, "run", run)
        name = rootfs.ensure(tmp_path / "other", "trixie", mirror, print)
        sources = (rootfs.path_of(tmp_path / "other", name) / "etc/apt/sources.list").read_text()
        assert sources.startswith(f"deb [check-valid-until=no] {site.folder.as_uri()}/debian trixie main\n")

    def test_kernel_is_made_from_it_and_its_packages_are_noted(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(argv: list[Any], *_: Any, **__: Any) -> str:
            port = int(argv[2].rpartition(":")[2])
            assert argv[-1] == f"deb [check-valid-until=no] {site.origin.mirror.archive} forky main"
            assert get(port, f"{site.origin.mirror.archive}/{deb('linux', '9')[0]}")[0] == 200
            raise LabError("enough")

        monkeypatch.setattr(kernel, "require", lambda *_: None)
        monkeypatch.setattr(kernel, "run", run)
        with pytest.raises(LabError, match="enough"):
            kernel.ensure(tmp_path / "other", site.origin.mirror, print)
        assert names_of(proxy.recorded(service.record_of(tmp_path / "other", kernel.key()))) == {"linux"}

    def test_images_are_made_from_the_inventorys_mirror(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Recipe, "build", lambda self, cache, say, mirror: mirror)
        fake: Any = SimpleNamespace(
            cache=site.cache, spec=replace(load(site.cache, SITE), mirror="http://m.test/debian")
        )
        built: Any = Lab.images(fake, ["test-guest"], print, begin=False)["test-guest"].build()
        assert built == Mirror("http://m.test/debian", "http://m.test/debian-security")
