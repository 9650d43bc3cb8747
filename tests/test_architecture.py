"""The floors of the design, read off the imports; and a light door."""

import ast
import subprocess
import sys

import pytest

FLOORS = {
    "errors": 0,
    "ragged": 0,
    "_arrow": 0,
    "gather": 0,
    "fork_server": 0,
    "tokenize": 1,
    "kernels": 1,
    "shards": 1,
    "layers": 1.5,
    "compress": 2,
    "embeddings": 2,
    "pack": 2,
    "load": 3,
    "corpus": 4,
    "cli": 5,
}


def imports_of(file):
    """Every tersely module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} has a relative import"
            if node.module and node.module.split(".")[0] == "tersely":
                names = (
                    [node.module] if node.module != "tersely" else [f"tersely.{a.name}" for a in node.names]
                )
                yield from ((name, node.lineno) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("tersely."))


def test_rooms_import_only_from_floors_below(root):
    package = root / "tersely"
    faults = []
    checked = 0
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in FLOORS, f"{room} has no floor: give it one in the design and here"
        for name, line in imports_of(file):
            other = name.split(".")[1]
            checked += 1
            if other != room and FLOORS[other] >= FLOORS[room] and FLOORS[room] > 0:
                faults.append(f"{file}:{line} imports {name} from floor {FLOORS[other]}")
            if FLOORS[room] == 0 and FLOORS[other] > 0:
                faults.append(f"{file}:{line} imports {name} from above the ground floor")
    assert checked > 50
    assert not faults, "\n".join(faults)


def test_every_module_says_what_it_is(root):
    for file in sorted((root / "tersely").rglob("*.py")):
        assert ast.get_docstring(ast.parse(file.read_text())), f"{file} has no docstring"


@pytest.mark.parametrize(
    "code",
    ["import tersely", "import tersely.cli.main as m; m.cli.main(['--help'], standalone_mode=False)"],
)
def test_the_door_is_light(code):
    check = (
        "import sys; heavy = {'torch', 'numba', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules); "
    )
    check += "sys.exit(f'loaded {heavy}' if heavy else 0)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}; {check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_promised_names_are_there():
    import tersely

    assert tersely.load_tokenizer("bytes").decode(tersely.load_tokenizer("bytes").encode(["a"])) == [b"a"]
    for name in ("plan", "PackPlan", "PackedDataset", "PackedCollator", "PackedBatch", "check_isolation"):
        assert callable(getattr(tersely.pack, name)), name
    assert set(dir(tersely)) >= {
        "Ragged",
        "load_tokenizer",
        "pack",
        "tokenize",
        "compress",
        "corpus",
        "embeddings",
        "shards",
        "kernels",
    }
    for name in (
        "varlen_attention",
        "register_with_transformers",
        "segment_reduce",
        "compact",
        "rotary",
        "unpad",
    ):
        assert callable(getattr(tersely.kernels, name)), name
    assert callable(tersely.compress.EqualInfoTokenizer)
    assert callable(tersely.embeddings.swap_tokenizer)
    with pytest.raises(AttributeError, match="nothing"):
        _ = tersely.nothing
