"""Checks of the installed packages: which are there, and which do not work together."""

import re

from rsis_tf.doctor.findings import NEW_GPU, Finding, note, ok, problem
from rsis_tf.doctor.machine import TENSORFLOWS, Machine, runtimes
from rsis_tf.doctor.versions import release, satisfies, split

_SHOWN = (
    *("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", *TENSORFLOWS, "keras", "scipy", "pycocotools", "matplotlib"),
    *("tensorboard", "onnx", "tf2onnx", "ai-edge-litert", "protobuf", "h5py", "msgspec", "pyyaml", "jax", "torch"),
)
"""Packages whose versions are listed and whose own requirements are compared with what is installed."""

_TRAINING = ("keras", "scipy", "pycocotools", "matplotlib", "tf2onnx", "onnx", "msgspec", "pyyaml")
_NEW_ENVIRONMENT = "make a new environment and install one of the commands of docs/installation.md"

_OPTIONAL = (
    ("pillow-heif", "HEIC images", 'pip install "rsis_tf[heif]"'),
    ("av", "videos (rsis predict)", 'pip install "rsis_tf[video]"'),
    ("manimgx-fonts", "class names in any script", 'pip install "rsis_tf[fonts]"'),
    ("cityscapesscripts", "the comparison with Cityscapes' own scores", 'pip install "rsis_tf[cityscapes]"'),
    ("ray", "the offline batch job of examples/", 'pip install "rsis_tf[ray]"'),
    ("pandas", "Instances.to_pandas()", "pip install pandas"),
    ("wandb", "rsis train --logger wandb", "pip install wandb"),
    ("mlflow", "rsis train --logger mlflow", "pip install mlflow"),
)
"""Package, what needs it, how to install it."""

KERAS_BACKENDS = {"tensorflow": TENSORFLOWS, "jax": ("jax",), "torch": ("torch",)}
"""Backend that can train → the packages that provide it."""

_NUMBERED = re.compile(r"^nvidia-.+-cu(\d+)$")
_UNNUMBERED = ("nvidia-cublas", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-nvjitlink")
"""Packages of CUDA 13 and later; their version begins with that of CUDA."""


def versions(machine: Machine) -> Finding:
    """Lists the packages that matter, and says what a base install lacks."""
    names = [name for name in _SHOWN if name in machine.packages]
    found = ", ".join(f"{name} {machine.packages[name]}" for name in names)
    found = f"rsis_tf {machine.packages.get('rsis-tf', '(not installed)')} in {machine.package}; {found}"
    lacks = [name for name in _TRAINING if name not in machine.packages]
    if not any(machine.first(*names) for names in KERAS_BACKENDS.values()):
        lacks.insert(0, "tensorflow")
    if lacks:
        extra = "gpu" if machine.has_nvidia else "train"
        return note(found, f'training, evaluation and export need {", ".join(lacks)}: pip install "rsis_tf[{extra}]"')
    return ok(found)


def requirements(machine: Machine) -> Finding:
    """Compares the requirements of the packages that matter with what is installed; protobuf is the usual case."""
    wrong = []
    for name in ("rsis-tf", *_SHOWN):
        for line in machine.requirements.get(name, ()):
            needed, clauses, marker = split(line)
            installed = machine.packages.get(needed)
            # The extras of this project are alternatives, but their versions hold for whatever is installed.
            if not needed or (marker and name != "rsis-tf"):
                continue
            if installed is None and not marker:
                wrong.append(f"{name} needs {needed}{clauses}, which is missing")
            elif installed is not None and not satisfies(installed, clauses):
                wrong.append(f"{name} needs {needed}{clauses}, and {installed} is installed")
    if wrong:
        more = f" (and {len(wrong) - 4} more)" if len(wrong) > 4 else ""
        return problem("; ".join(wrong[:4]) + more, f"install a version that fits, or {_NEW_ENVIRONMENT}")
    return ok("the installed versions fit together")


def onnxruntimes(machine: Machine) -> Finding:
    """Checks that one package, not two, owns the folder `onnxruntime`."""
    names = runtimes(machine.packages)
    found = " and ".join(f"{name} {machine.packages[name]}" for name in names)
    if len(names) > 1:
        return problem(f"{found}: both write the folder onnxruntime and damage each other", _NEW_ENVIRONMENT)
    if not names:
        extra = "runtime-gpu" if machine.has_nvidia else "cpu"
        return note("no ONNX Runtime, so ONNX files cannot be run", f'pip install "rsis_tf[{extra}]"')
    gpu = machine.packages.get("onnxruntime-gpu")
    if gpu and release(gpu) >= (1, 27) and machine.first(*TENSORFLOWS):
        return problem(
            f"{found} is built for CUDA 13, TensorFlow for CUDA 12",
            'pip install "onnxruntime-gpu[cuda,cudnn]>=1.24.4,<1.27"',
        )
    return ok(found)


def cuda_packages(machine: Machine) -> Finding:
    """Checks that NVIDIA's packages belong to one version of CUDA."""
    by_version: dict[int, list[str]] = {}
    for name, version in machine.packages.items():
        match = _NUMBERED.match(name)
        if match:
            by_version.setdefault(int(match[1]), []).append(name)
        elif name in _UNNUMBERED:
            by_version.setdefault(release(version)[0], []).append(name)
    text = "; ".join(f"CUDA {number}: {', '.join(sorted(names))}" for number, names in sorted(by_version.items()))
    if len(by_version) > 1:
        return problem(f"libraries of several CUDA versions: {text}", _NEW_ENVIRONMENT)
    return ok(text or "no CUDA libraries as packages")


def cudnn(machine: Machine) -> Finding:
    """Checks that cuDNN is there in the version that TensorFlow and ONNX Runtime load, if there is a GPU."""
    packages = {name: version for name, version in machine.packages.items() if name.startswith("nvidia-cudnn")}
    found = ", ".join(f"{name} {version}" for name, version in packages.items())
    users = machine.first(*TENSORFLOWS, "onnxruntime-gpu")
    if users is None or not (packages or machine.has_nvidia):
        return ok(found or "not needed: no GPU")
    other = [version for version in packages.values() if release(version)[0] != 9]
    if other:
        return problem(f"{found}, where cuDNN 9 is needed", 'pip install "nvidia-cudnn-cu12>=9.3,<10"')
    if packages:
        return ok(found)
    if machine.cudnn_library is None:
        return problem("no cuDNN, so the GPU cannot be used", NEW_GPU)
    if ".so." in machine.cudnn_library and not machine.cudnn_library.endswith(".so.9"):
        return problem(
            f"{machine.cudnn_library} of the system, where cuDNN 9 is needed",
            'pip install "nvidia-cudnn-cu12>=9.3,<10"',
        )
    return ok(f"{machine.cudnn_library} of the system")


def keras(machine: Machine) -> Finding:
    """Checks that Keras is version 3 with an installed backend, and that nothing puts Keras 2 in its place."""
    version = machine.packages.get("keras")
    tensorflows = [name for name in TENSORFLOWS if name in machine.packages]
    if len(tensorflows) > 1:
        both = " and ".join(tensorflows)
        return problem(f"{both}: both write the folder tensorflow", _NEW_ENVIRONMENT)
    if version is None:
        return note("no Keras: only exported models can be used", 'to train: pip install "rsis_tf[train]"')
    if release(version) < (3,):
        return problem(f"keras {version}", 'Keras 3 is needed: pip install "keras>=3.15,<3.16"')
    variable = machine.environment.get("KERAS_BACKEND", "")
    backend = variable or machine.keras_file_backend or "tensorflow"
    source = "KERAS_BACKEND" if variable else "keras.json" if machine.keras_file_backend else "the default"
    found = f"keras {version} on {backend} ({source})"
    if backend not in KERAS_BACKENDS:
        return problem(found, f"set KERAS_BACKEND to {', '.join(KERAS_BACKENDS)}: other backends cannot train")
    if not machine.first(*KERAS_BACKENDS[backend]):
        there = [name for name, packages in KERAS_BACKENDS.items() if machine.first(*packages)]
        advice = f"set KERAS_BACKEND={there[0]}" if there else f"install {backend}"
        return problem(f"{found}, which is not installed", advice)
    legacy = machine.environment.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    if legacy:
        return problem(f"{found}, and TF_USE_LEGACY_KERAS replaces tf.keras by Keras 2", "unset TF_USE_LEGACY_KERAS")
    if "tf-keras" in machine.packages:
        return note(
            f"{found}; tf-keras {machine.packages['tf-keras']} (Keras 2) is also installed",
            "models of tf_keras and of Keras 3 cannot be mixed; this project uses only keras",
        )
    return ok(found)


def optional(machine: Machine) -> Finding:
    """Lists optional packages with what needs them."""
    there = [name for name, _, _ in _OPTIONAL if name in machine.packages]
    absent = [(what, command) for name, what, command in _OPTIONAL if name not in machine.packages]
    found = f"installed: {', '.join(there) or 'none'}"
    if not absent:
        return ok(found)
    return note(found, "; ".join(f"for {what}: {command}" for what, command in absent))
