"""The repository itself: no secrets, no registry hosts, no paths of one machine, links that lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))

SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|\bxox[baprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\."
    r"|(?i:(?:password|token|secret)[\"']?\s*[:=]\s*[\"'](?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/]{24,}[\"'])"
)
# Put together from parts, so that this file does not find itself.
HOSTS = re.compile("|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org"]))
MACHINE = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+)/|" + re.escape(f"{ROOT}/"))


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts():
    for path in tracked():
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue  # a recording or a picture


def found(pattern, *, but=()):
    return [
        f"{name}: {match[0][:60]!r}"
        for name, text in texts()
        if str(name) not in but
        for match in pattern.finditer(text)
    ]


@pytest.mark.parametrize(
    "planted",
    [
        "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIIJMevXGPvAXFnbHFOU5KppY\n",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        'password: "' + "c29tZXRoaW5nIHZlcnkgc2VjcmV0" + '"',
    ],
)
def test_the_search_finds_secrets_when_there_are_some(planted):
    assert SECRETS.search(planted)


def test_no_secret_lies_in_the_repository():
    assert found(SECRETS) == []


def test_no_environment_file_is_tracked():
    names = {path.name for path in tracked()}

    assert {name for name in names if name == ".env" or name.endswith((".pem", ".key"))} == set()


def test_no_file_names_a_host_of_a_package_registry():
    assert found(HOSTS) == []


def test_no_file_holds_a_path_of_one_machine():
    assert found(MACHINE, but=("uv.lock",)) == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_a_hash_and_no_address(lock):
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().strip())

    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in lock.read_text()


def test_every_link_of_the_documentation_leads_to_a_file():
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", path.read_text())
        if not target.startswith(("http://", "https://", "mailto:")) and not (path.parent / target).exists()
    ]

    assert broken == []


def test_every_page_of_the_documentation_is_in_its_index():
    index = (ROOT / "docs" / "index.md").read_text()

    assert [
        page.name for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in index and page.name != "index.md"
    ] == []


def test_the_source_roots_are_no_packages():
    assert [root for root in ("operator", "detector", "devcluster") if (ROOT / root / "__init__.py").exists()] == []


def test_every_lint_exception_carries_its_reason():
    """At least once a file and code: the first use says why."""
    unexplained = []
    for name, text in texts():
        if name.suffix == ".py":
            used = re.findall(r"#\s*noqa:\s*([A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)(\s+-\s+\S+)?", text)
            codes = {code for listed, _ in used for code in re.split(r",\s*", listed)}
            explained = {code for listed, reason in used if reason for code in re.split(r",\s*", listed)}
            unexplained += [f"{name}: {code}" for code in sorted(codes - explained)]

    assert unexplained == []
