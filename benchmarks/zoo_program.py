"""Fine-tunes a small version of a standard architecture: `python zoo_program.py --model bert --steps 30`."""

import argparse
import math

import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
)

SMALL = {
    "vocab_size": 120, "hidden_size": 64, "d_model": 64, "n_embd": 64, "dim": 64, "embedding_size": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_decoder_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "d_kv": 16,
    "intermediate_size": 128, "d_ff": 128, "ffn_dim": 128, "dim_ff": 128, "dff": 128, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "n_inner": 128, "hidden_dim": 128, "ffn_hidden_size": 128, "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "max_position_embeddings": 128, "n_positions": 128, "n_ctx": 128, "image_size": 32, "patch_size": 4,
    "hidden_dropout_prob": 0.1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "rotary_dim": 8, "attention_window": 16, "block_size": 8, "num_random_blocks": 1, "q_groups": 1, "k_groups": 1,
    "v_groups": 1, "post_attention_groups": 1, "intermediate_groups": 1, "output_groups": 1, "d_embed": 64, "d_inner": 128,
    "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 16, "true_hidden_size": 64, "d_head": 16,
    "state_size": 8, "time_step_rank": 4, "max_source_positions": 400, "max_target_positions": 64,
    "intra_bottleneck_size": 64, "sliding_window": 64, "n_groups": 1, "input_channels": 1, "mamba_d_ssm": 128,
}  # fmt: skip
VARIANTS = {
    "swin": {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 4], "window_size": 4, "patch_size": 2},
    "swinv2": {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 4], "window_size": 4, "patch_size": 2},
    "convnext": {"hidden_sizes": [16, 32, 48], "depths": [1, 1, 2], "num_stages": 3, "patch_size": 2},
    "convnextv2": {"hidden_sizes": [16, 32, 48], "depths": [1, 1, 2], "num_stages": 3, "patch_size": 2},
    "resnet": {"embedding_size": 16, "hidden_sizes": [16, 32, 48], "depths": [1, 1, 2], "layer_type": "basic"},
    "regnet": {"embedding_size": 16, "hidden_sizes": [16, 32, 48], "depths": [1, 1, 2], "groups_width": 8},
    "focalnet": {"embed_dim": 16, "depths": [1, 1, 2], "focal_levels": [2, 2, 2], "focal_windows": [3, 3, 3], "patch_size": 2},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1},
    "bart": {"pad_token_id": 0}, "xlm": {"emb_dim": 64}, "flaubert": {"emb_dim": 64},
    "wav2vec2": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "hubert": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "wavlm": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "unispeech": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "unispeech-sat": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "data2vec-audio": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "sew": {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 8]},
    "big_bird": {"attention_type": "original_full"}, "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "segformer": {"hidden_sizes": [16, 32], "depths": [1, 1], "num_attention_heads": [1, 2], "num_encoder_blocks": 2,
                  "sr_ratios": [2, 1], "patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2]},
    "poolformer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    "pvt": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 8]},
    "cvt": {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 1, 2]},
    "mobilevit": {"hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [16, 16, 24, 32, 48, 64, 96]},
    "longformer": {"attention_window": [16, 16]}, "led": {"attention_window": [16, 16]},
}  # fmt: skip
HEADS = {
    "classify": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "tag": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    "lm": MODEL_FOR_CAUSAL_LM_MAPPING,
    "translate": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    "image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    "audio": MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
}


def small_config(name):
    kind = CONFIG_MAPPING[name]
    changed = {key: value for key, value in SMALL.items() if hasattr(kind(), key)}
    known = {key: value for key, value in changed.items() if isinstance(getattr(kind(), key), int | float | None)}
    config = kind(**{**known, **VARIANTS.get(name, {})})
    config.num_labels = 4
    if getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = 1
    return config


def data(task, count=512):
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 4, (count,), generator=generator)
    if task in ("classify", "tag"):
        tokens = torch.randint(10, 100, (count, 24), generator=generator)
        tokens[:, 3] = tokens[:, 11] = labels + 4
        if task == "tag":
            return {"input_ids": tokens, "labels": tokens % 4}
        return {"input_ids": tokens, "labels": labels}
    if task in ("lm", "translate"):
        start = torch.randint(10, 100, (count, 1), generator=generator)
        tokens = 10 + (start + torch.arange(24) * (labels[:, None] + 1)) % 90
        if task == "translate":
            return {"input_ids": tokens, "labels": tokens.flip(1)}
        return {"input_ids": tokens, "labels": tokens}
    if task == "image":
        pixels = torch.randn(count, 3, 32, 32, generator=generator)
        for index, label in enumerate(labels.tolist()):
            pixels[index, label % 3, 16 * (label // 2) :, 16 * (label % 2) :] += 1.0
        return {"pixel_values": pixels, "labels": labels}
    time = torch.arange(4000) / 4000
    pitch = 40.0 * (labels[:, None] + 1)
    waves = torch.sin(2 * math.pi * pitch * time) + 0.1 * torch.randn(count, 4000, generator=generator)
    return {"input_values": waves, "labels": labels}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="bert")
    parser.add_argument("--task", default="classify", choices=HEADS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    config = small_config(args.model)
    model = HEADS[args.task][type(config)](config)
    columns = data(args.task)
    loader = DataLoader(TensorDataset(*columns.values()), batch_size=16, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    model.train()
    step = 0
    while step < args.steps:
        for batch in loader:
            optimizer.zero_grad()
            loss = model(**dict(zip(columns, batch, strict=True))).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 10 == 0:
                print(f"step {step} loss {loss.item():.4f}", flush=True)
            if step >= args.steps:
                break


if __name__ == "__main__":
    main()
