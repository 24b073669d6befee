"""Tiny encoders of sound and of pictures, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
}
"""Settings of a wav2vec 2.0 of a few thousand parameters, with the strides of a real one."""

TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 20,
    "max_source_positions": 50,  # one second
    "vocab_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a tiny random encoder of transformers; made once per kind and settings."""
    made: dict[str, Path] = {}

    def make(class_name: str, *, half: bool = False, **settings: object) -> Path:
        key = f"{class_name} {half} {sorted(settings.items())}"
        if key not in made:
            import torch
            import transformers

            torch.manual_seed(0)
            tiny = TINY_WHISPER if class_name.startswith("Whisper") else TINY
            model_class = getattr(transformers, class_name)
            model = model_class(model_class.config_class(**{**tiny, **settings}))
            made[key] = tmp_path_factory.mktemp("encoder")
            (model.half() if half else model).save_pretrained(made[key])
            if class_name.startswith("Whisper"):
                mel = transformers.WhisperFeatureExtractor(
                    feature_size=TINY_WHISPER["num_mel_bins"]
                )
                mel.save_pretrained(made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer with random weights, as transformers saves it."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=32,
        patch_size=16,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
