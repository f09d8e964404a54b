"""The keys of harness.toml by which a server that speaks TLS is known, the same for every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from harness.config.file import DependencyTable
from harness.model.errors import UsageError
from harness.model.records.faults import Tls

_FILES = ("tls_ca", "tls_cert", "tls_key")


class TlsTable(DependencyTable, frozen=True, kw_only=True):
    """See harness.model.records.faults.Tls."""

    tls: bool = False
    tls_ca: str | None = None
    tls_name: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def check(self, where: str) -> None:
        for key in ("tls_name", *_FILES):
            if not self.tls and getattr(self, key) is not None:
                raise UsageError(f"{where}.{key} is for TLS", hint="write tls = true beside it")
        if self.tls and self.tls_ca is None and self.tls_name is None:
            raise UsageError(
                f"{where}.tls: by what is its certificate known?",
                hint="tls_ca: the file of an authority of your own; tls_name: the name in a public certificate",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError(f"{where}: tls_cert and tls_key belong together")

    def in_folder(self, folder: Path) -> Self:
        paths = {key: getattr(self, key) for key in _FILES}
        return msgspec.structs.replace(
            self, **{key: str(folder / Path(path).expanduser()) for key, path in paths.items() if path is not None}
        )

    @property
    def tls_declared(self) -> Tls | None:
        if not self.tls:
            return None
        return Tls(ca=self.tls_ca, name=self.tls_name, cert=self.tls_cert, key=self.tls_key)
