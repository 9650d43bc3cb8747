"""The docs are true: examples run, the command line page is current, links lead somewhere."""

import re
import runpy
import subprocess
import sys

import pytest


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_example(root):
    out = run(root / "examples/train_on_sample.py", "6")
    assert "isolated" in out
    assert "resumed exactly" in out
    assert "NOT" not in out


def test_stream_example(root):
    out = run(root / "examples/pack_a_stream.py")
    assert float(re.search(r"([\d.]+) % used", out).group(1)) > 98


def test_encoder_example(root):
    out = run(root / "examples/padding_free_encoder.py")
    assert "152 of 256 tokens" in out
    assert float(out.split()[-1]) < 1e-5


def test_the_command_line_page_is_current(root):
    page = runpy.run_path(str(root / "docs/make_cli.py"))["page"]()
    assert (root / "docs/cli.md").read_text() == page, "run python docs/make_cli.py"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/tutorial.md",
        "docs/corpus.md",
        "docs/kernels.md",
        "docs/inference.md",
        "docs/equal_info.md",
        "docs/swap.md",
        "docs/byte_models.md",
    ],
)
def test_links_lead_somewhere(root, page):
    links = re.findall(r"\]\(([^)#]+)\)", (root / page).read_text())
    for link in links:
        if "://" not in link:
            assert (root / page).parent.joinpath(link).exists(), link
    assert links


def test_ci_runs_the_commands_of_the_readme(root):
    readme = (root / "README.md").read_text()
    for command in re.findall(r"^python -m pip install.*$", readme, re.M):
        assert command in (root / ".ci/run").read_text()


def test_every_version_that_is_tested_is_pinned(root):
    """What pyproject.toml asks for stands in constraints.txt with an exact version."""
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    pinned = {
        line.split("==")[0].lower()
        for line in (root / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for requirement in needed:
        assert re.match(r"[\w-]+", requirement).group().lower() in pinned, requirement
