"""What the demo of a model needs to know, and the folder of a Hugging Face Space with it.

The folder stands alone: app.py is the file that `code-alpaca demo` runs, settings.json tells it
the model, its prompts and its limits, and requirements.txt pins what both were tested with.
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
from code_alpaca.core.errors import InputError
from code_alpaca.core.markdown import code, inline, url
from code_alpaca.core.prompts import PROMPT_STYLES, PromptStyle, format_prompt

HUB = "https://huggingface.co"
NO_GRADIO = "gradio is not installed: pip install 'gradio>=6.31'"
REQUIRED = ("gradio", "torch", "transformers")
SAFETY_NOTE = (
    "**Read the code before you run it.** A model wrote it: it can be wrong, insecure or harmful, "
    "and nobody has checked it. Keep secrets and personal data out of what you type."
)
EXAMPLES = [
    [
        "Write a Python function `sum_odd(values)` that returns the sum of the odd numbers in a "
        "list of integers.",
        "",
    ],
    ["Find the bug in this function and correct it.", "def mean(xs):\n    return sum(xs) / len(x)"],
    ["Write a SQL query that counts the orders of each customer, the most first.", ""],
    ["Translate this Python code to JavaScript.", "squares = [n * n for n in range(10)]"],
]
README = """# {title}

A page on which to try [{model}]({model_url}): type an instruction, and an input where it needs \
one, and read the code appear.

{safety_note}

{trained}The prompt is the one that the model was trained with, and stands in `settings.json` \
beside the limits of the page. To run it on your own machine:

```sh
pip install -r requirements.txt
python app.py
```
"""


def settings(
    model: str,
    *,
    revision: str | None,
    prompt_style: PromptStyle,
    datasets: Mapping[str, str | None],
    title: str,
    safety_note: str = SAFETY_NOTE,
    **limits: Any,
) -> dict[str, Any]:
    """The settings of app.py, as plain JSON.

    Args:
        datasets: what the model was trained on, each Hub id with its revision; None: a dataset
            that is not on the Hub, and is named without a link.
        limits: keys of `app.Settings` from `dtype` on; what is left out has the default there.
    """
    return {
        "title": title,
        "model": model,
        "revision": revision,
        "model_url": _url(model, revision) if is_hub_id(model) else "",
        "datasets": [
            {"name": name, "url": _url(f"datasets/{name}", commit) if commit else ""}
            for name, commit in datasets.items()
        ],
        "safety_note": safety_note,
        "prompt_without_input": format_prompt("{instruction}", style=prompt_style),
        "prompt_with_input": format_prompt("{instruction}", "{input}", style=prompt_style),
        "stops": list(PROMPT_STYLES[prompt_style].stops),
        "languages": languages.highlighting(),
        "examples": EXAMPLES,
        **limits,
    }


def write_space(
    folder: Path,
    *,
    model: str,
    revision: str | None,
    datasets: Mapping[str, str | None],
    title: str,
    prompt_style: PromptStyle = "alpaca",
    safety_note: str = SAFETY_NOTE,
    license: str = "apache-2.0",
    **limits: Any,
) -> None:
    """Write app.py, settings.json, requirements.txt and README.md of a Space into `folder`.

    Args:
        model: its Hub id; it is loaded at `revision`, where the Space runs.
        license: of the Space, by its Hub name; app.py is under Apache-2.0.
        limits: keys of `app.Settings` from `dtype` on.

    Raises:
        InputError: gradio is not installed, so that no version of it can be pinned.
    """
    from huggingface_hub import SpaceCardData

    try:
        versions = {name: metadata.version(name).split("+")[0] for name in REQUIRED}
    except metadata.PackageNotFoundError:
        raise InputError(NO_GRADIO) from None
    facts = settings(
        model,
        revision=revision,
        prompt_style=prompt_style,
        datasets=datasets,
        title=title,
        safety_note=safety_note,
        **limits,
    )
    card = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=versions["gradio"],
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license=license,
        models=[model] if is_hub_id(model) else None,
        datasets=[name for name, commit in datasets.items() if commit] or None,
        pinned=False,
        short_description="An instruction in, code out",
    )
    links = ", ".join(
        f"[{code(each['name'])}]({url(each['url'])})" if each["url"] else code(each["name"])
        for each in facts["datasets"]
    )
    trained = f"It was trained on {links}. " if links else ""
    words = {
        "title": inline(title),
        "model": code(model),
        "model_url": url(facts["model_url"] or model),
        "safety_note": safety_note,
        "trained": trained,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("code_alpaca") / "release" / "app.py") as source:
        shutil.copyfile(source, folder / "app.py")
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (folder / "settings.json").write_text(text, encoding="utf-8")
    pins = "".join(f"{name}=={number}\n" for name, number in versions.items())
    (folder / "requirements.txt").write_text(pins, encoding="utf-8")
    readme = f"---\n{card.to_yaml()}\n---\n\n{README.format(**words)}"
    (folder / "README.md").write_text(readme, encoding="utf-8")


def is_hub_id(name: str) -> bool:
    """Whether `name` is a Hub id like ORG/NAME, and no folder here."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def _url(repository: str, revision: str | None) -> str:
    return f"{HUB}/{repository}" + (f"/tree/{revision}" if revision else "")
