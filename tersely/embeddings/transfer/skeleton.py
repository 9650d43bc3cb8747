"""A saved model without its weights: its modules, on no device, and the settings that it was saved with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationConfig
from transformers.models.auto import modeling_auto

from tersely.errors import EmbeddingError


def skeleton(folder: Path) -> Any:
    """The model in a folder, of the class that its configuration names, whose tensors have shapes and no numbers.

    Raises:
        EmbeddingError: the folder describes no model.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = class_of(config)
        with torch.device("meta"):
            model = getattr(kind, "from_config", kind)(config)
        if (folder / "generation_config.json").exists() and hasattr(model, "generation_config"):
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(".")
        raise EmbeddingError(
            f"{folder} describes no model ({problem}): give a folder that save_pretrained wrote"
        ) from error
    return model.eval()


def class_of(config: Any) -> Any:
    """The class of the model that a configuration names, or one of the Auto classes if it names none that there is."""
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    if type(config) in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModel
