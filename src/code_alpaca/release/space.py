"""Write the settings of the demo page, and the folder of a Hugging Face Space that serves it.

The folder is self-contained: app.py and text_generation.py are the files that `code-alpaca demo`
runs, settings.json contains the model, its prompts and the limits, and requirements.txt pins the
versions that were tested together.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from code_alpaca.core import languages
from code_alpaca.core.extras import require_package
from code_alpaca.core.markdown import code, inline, url
from code_alpaca.core.prompts import PROMPT_STYLES

REQUIRED = ("gradio", "torch", "transformers")
APP_FILES = {"app.py": "release", "text_generation.py": "evaluation"}  # name: package
FILES = (*APP_FILES, "settings.json", "requirements.txt", "README.md")
SAFETY_NOTE = (
    "**Read the code before you run it.** A model wrote it: it can be wrong, insecure or harmful, "
    "and no person has checked it. Do not enter secrets or personal data."
)
EXAMPLES = [  # instruction and input
    ["Write a Python function `sum_odd(values)` that returns the sum of the odd numbers in a list "
     "of integers.", ""],
    ["Find the bug in this function and correct it.", "def mean(xs):\n    return sum(xs) / len(x)"],
    ["Write a SQL query that counts the orders of each customer, the most first.", ""],
    ["Translate this Python code to JavaScript.", "squares = [n * n for n in range(10)]"],
]  # fmt: skip
README = """# {title}

Try [{model}]({model_url}): enter an instruction, and an input if the task has one, and watch the \
code appear.

{safety_note}

{trained}The prompt is the one used in training; `settings.json` has the texts \
and the limits of the page. To run the page on your own machine:

```sh
pip install -r requirements.txt
python app.py
```
"""


def make_settings(
    model: str,
    *,
    revision: str | None,
    prompt_style: str,
    datasets: Mapping[str, str | None],
    title: str,
    **limits: Any,
) -> dict[str, Any]:
    """Return the settings of app.py.

    Args:
        datasets: names of the training data, each with its commit on the Hub, or None.
        limits: keys of `app.DemoSettings` from `dtype` on.
    """
    prompt = PROMPT_STYLES.get(prompt_style)  # None: the chat template
    return {
        "title": title,
        "model": model,
        "revision": revision,
        "model_url": hub_url(model, revision) if is_hub_id(model) else "",
        "datasets": [
            {"name": name, "url": hub_url(f"datasets/{name}", commit) if commit else ""}
            for name, commit in datasets.items()
        ],
        "safety_note": SAFETY_NOTE,
        "prompt_without_input": prompt.without_input if prompt else "",
        "prompt_with_input": prompt.with_input if prompt else "",
        "stops": list(prompt.stops) if prompt else [],
        "languages": languages.highlighting(),
        "examples": EXAMPLES,
        **limits,
    }


def write_space(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the files of a Space into `folder`; `settings` are those of `make_settings`."""
    for name in REQUIRED:
        require_package(name)
    versions = {name: metadata.version(name).split("+")[0] for name in REQUIRED}
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in APP_FILES.items():
        with resources.as_file(resources.files("code_alpaca") / package / name) as path:
            shutil.copyfile(path, folder / name)
    texts = {
        "settings.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
        "requirements.txt": "".join(f"{name}=={number}\n" for name, number in versions.items()),
        "README.md": _render_readme(settings, versions["gradio"]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def is_hub_id(name: str) -> bool:
    """Return whether `name` is a Hub id like ORG/NAME, and not a local folder."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def _render_readme(settings: Mapping[str, Any], gradio_version: str) -> str:
    from huggingface_hub import SpaceCardData

    model, datasets = settings["model"], settings["datasets"]
    card = SpaceCardData(
        title=settings["title"],
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license="apache-2.0",  # of app.py
        models=[model] if settings["model_url"] else None,
        datasets=[dataset["name"] for dataset in datasets if dataset["url"]] or None,
        pinned=False,
        short_description="Enter an instruction, get code",
    )
    names = [(code(dataset["name"]), dataset["url"]) for dataset in datasets]
    links = ", ".join(f"[{name}]({url(link)})" if link else name for name, link in names)
    text = README.format(
        title=inline(settings["title"]),
        model=code(model),
        model_url=url(settings["model_url"] or model),
        safety_note=SAFETY_NOTE,
        trained=f"The model was trained on {links}. " if links else "",
    )
    return f"---\n{card.to_yaml()}\n---\n\n{text}"


def hub_url(path: str, revision: str | None = None) -> str:
    """Return the address of a path, or of a repository at a revision, on the Hub in use."""
    from huggingface_hub.constants import ENDPOINT

    return f"{ENDPOINT}/{path}" + (f"/tree/{revision}" if revision else "")
