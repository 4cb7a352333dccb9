"""What importing the package loads, and what the package may import."""

import ast
import subprocess
import sys
from pathlib import Path

import envs

FOLDER = Path(envs.__file__).parent


def run(code: str, cwd: Path) -> str:
    code = f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_and_its_contract_load_no_simulator(tmp_path: Path) -> None:
    heavy = "print([name for name in ('mujoco', 'gymnasium', 'torch') if name in sys.modules])"
    assert run(f"import envs, envs.api; {heavy}", tmp_path) == "[]"


def test_families_load_without_gymnasium_and_leave_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import envs; from envs.batch import BatchEnv; "
        "[BatchEnv(f := envs.load_family(name), f.split('id')).reset() for name in envs.FAMILIES]; "
        "print('gymnasium' in sys.modules)"
    )
    assert run(code, tmp_path) == "False"
    assert not list(tmp_path.iterdir())


def test_it_imports_nothing_else_of_ours() -> None:
    ours = {"benchmark", "methods", "results", "reports", "tests"}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} imports relatively"
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & ours, path.name
