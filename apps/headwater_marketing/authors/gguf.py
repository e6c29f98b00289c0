"""A GGUF file as a folder that transformers reads fast: converted once, kept in the cache.

GGUF holds weights in few bits; the folder holds the same numbers in 32 (a 135M model: 90 MB become 540).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from pathlib import Path

from headwater.data import cache_folder


def converted(file: Path) -> Path:
    """The folder of a file, named by its content."""
    with open(file, "rb") as opened:
        mark = hashlib.file_digest(opened, "blake2b").hexdigest()[:24]
    folder = cache_folder() / "marketing" / f"{file.stem}-{mark}"
    if not folder.is_dir():
        _convert(file, folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    from headwater_marketing.authors.causal import in_a_line, packages, quiet

    with packages(), quiet(), in_a_line(str(file)), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"gguf_file": file.name, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
        setattr(model, "hf_quantizer", None)  # noqa: B010  # else it cannot be saved
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        part.mkdir(parents=True)
        try:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            if folder.is_dir():  # another process was faster
                return
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
