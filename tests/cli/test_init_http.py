"""`harness init --http`: Envoy's configuration and what else is to be done, as one file."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from harness.dependencies.configuration import load
from harness.stack.embedded import envoy
from harness.stack.external.declared import dependencies
from tests.support.command import command


def test_what_is_printed_starts_an_envoy_and_declares_its_fronts(tmp_path: Path) -> None:
    done = command("init", "--http", "risk=127.0.0.1:9000", "--http", "mail=https://api.mail.example", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (tmp_path / "envoy.yaml").write_text(done.stdout)
    listeners = yaml.safe_load(done.stdout)["static_resources"]["listeners"]
    assert [one["name"] for one in listeners] == ["harness_risk", "harness_mail"]
    comments = [line.removeprefix("#").removeprefix(" ") for line in done.stdout.splitlines() if line.startswith("#")]
    tables = comments[comments.index("[dependencies.risk]") :]
    (tmp_path / "harness.toml").write_text('[target]\nurl = "http://127.0.0.1:8000"\n\n' + "\n".join(tables))
    risk, mail, _ = dependencies(load(tmp_path / "harness.toml"), "http://127.0.0.1:8000")
    assert (str(risk.path), str(risk.direct)) == ("127.0.0.1:18080", "127.0.0.1:9000")
    assert (str(mail.path), mail.direct) == ("127.0.0.1:18081", None)
    assert risk.front is not None and (risk.front.url, risk.front.name) == ("http://127.0.0.1:9901", "risk")
    assert tomllib.loads("\n".join(tables))["dependencies"].keys() == {"risk", "mail"}
    assert "http://127.0.0.1:18081 instead of https://api.mail.example:443 (mail)" in done.stdout
    words = [str(envoy.binary()), "--mode", "validate", "-c", "envoy.yaml", "--disable-hot-restart"]
    checked = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr[-2000:]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--http", "risk"], "a name and an address are wanted"),
        (["--http", "risk=9000"], "'9000' is no address"),
        (["--http", "Risk=h:1"], "'Risk' cannot be the name"),
        (["--http", "risk=ftp://h"], "an http or https URL is wanted"),
        (["--http", "risk=http://h/api"], "a front is for a whole server"),
        (["--http", "risk=https://me:hunter2@h"], "no login in an address"),
        (["--http", "risk=h:1", "--http", "risk=h:2"], "risk is given twice"),
        (["--http", "risk=h:1", "--diff"], "--http goes alone"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else None,
)
def test_what_cannot_be_fronted_is_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    done = command("init", *words, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2 and "hunter2" not in done.stderr
