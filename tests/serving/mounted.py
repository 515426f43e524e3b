"""A Secret with a certificate, mounted as a kubelet does it: all of its files are exchanged at once."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.cluster.certificates import Authority, Pair


class Mounted:
    """A folder with `tls.crt`, `tls.key` and `ca.crt`."""

    def __init__(self, folder: Path, pair: Pair, authority: Authority) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True)
        self.put(pair, authority)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(Path("..data") / name)

    def put(self, pair: Pair, authority: Authority) -> None:
        """Another certificate from now on."""
        new = self.folder / f"..{next(self._numbers)}"
        new.mkdir()
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.certificate}
        for name, file in files.items():
            (new / name).write_bytes(file.read_bytes())
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(self.folder / "..data")
