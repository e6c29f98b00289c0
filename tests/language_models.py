"""A tiny random Llama with a tiny tokenizer, both made here: what a language model is to the code, without one.
``conftest.py`` puts this module into ``sys.modules``, as it does with ``toys.py``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any


@functools.cache
def tokenizer() -> Any:
    """Bytes and a few merges, learnt from our own grammar: the stop behind a placeholder merges with its brace."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from headwater_marketing.authors import prompt

    texts = [prompt.examples(channel, part) for channel, part in prompt.PARTS]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, special_tokens=["<end>"]))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def llama() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer()), max_position_embeddings=2048, **sizes)).eval()


def saved(folder: Path) -> Path:
    """Both as a folder of the Hugging Face kind."""
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
