"""Files that other services read: the hosted workflow, issue templates, hooks and the citation."""

import pathlib

import pytest

import rsis_tf

yaml = pytest.importorskip("yaml")

ROOT = pathlib.Path(__file__).parents[1]


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_hosted_workflow_runs_the_script_of_ci():
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_templates_have_what_github_requires(name):
    template = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert template["name"]
    assert template["description"]
    identifiers = [part["id"] for part in template["body"]]
    assert len(identifiers) == len(set(identifiers))
    assert all(part["attributes"]["label"] for part in template["body"])


def test_hooks_run_linter_and_formatter():
    hooks = [hook["id"] for repository in read(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    assert {"ruff-check", "ruff-format", "end-of-file-fixer", "check-yaml"} <= set(hooks)


def test_the_citation_names_this_version_and_the_paper():
    citation = read("CITATION.cff")
    assert citation["version"] == rsis_tf.__version__
    assert citation["preferred-citation"]["url"] in (ROOT / "README.md").read_text(encoding="utf-8")
