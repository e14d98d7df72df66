"""Small configurations of transformers' architectures, with the heads that people train: class name -> options."""

from __future__ import annotations

from typing import Any

from torch import nn

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
_BERT |= {"max_position_embeddings": 64}
_LLAMA = {**_BERT, "num_key_value_heads": 1}
_MOE = {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
_T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
_BART = {
    "vocab_size": 99,
    "d_model": 32,
    "max_position_embeddings": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
}
_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_VIT |= {"image_size": 32, "patch_size": 8}
_AUDIO = {
    **_VIT,
    "vocab_size": 32,
    "conv_dim": (32, 32),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
}
del _AUDIO["image_size"], _AUDIO["patch_size"]
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 99, "n_positions": 64}

TINY: dict[str, dict[str, Any]] = {
    # encoders of text
    "BertModel": _BERT,
    "BertForSequenceClassification": _BERT,
    "BertForMaskedLM": _BERT,
    "BertForNextSentencePrediction": _BERT,
    "BertForMultipleChoice": _BERT,
    "BertForPreTraining": _BERT,
    "RobertaForTokenClassification": {**_BERT, "num_labels": 5},
    "RobertaForSequenceClassification": {**_BERT, "problem_type": "multi_label_classification", "num_labels": 5},
    "XLMRobertaForSequenceClassification": {**_BERT, "num_labels": 1},
    "DistilBertForQuestionAnswering": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 64,
        "vocab_size": 99,
        "max_position_embeddings": 64,
    },
    "ElectraForPreTraining": {**_BERT, "embedding_size": 16},
    "AlbertForMaskedLM": {**_BERT, "embedding_size": 16},
    "DebertaV2ForSequenceClassification": {
        **_BERT,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
    },
    "LongformerForSequenceClassification": {**_BERT, "attention_window": 8},
    "BigBirdForMaskedLM": {**_BERT, "block_size": 4, "num_random_blocks": 1},
    "ModernBertForMaskedLM": {**_BERT, "global_attn_every_n_layers": 2, "pad_token_id": 0},
    "FNetForSequenceClassification": _BERT,
    "MPNetForSequenceClassification": _BERT,
    # decoders of text
    "GPT2LMHeadModel": _GPT2,
    "GPT2ForSequenceClassification": {**_GPT2, "pad_token_id": 0},
    "GPTNeoXForCausalLM": _BERT,
    "GPTNeoForCausalLM": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "vocab_size": 99,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 1]],
    },
    "GPTJForCausalLM": {**_GPT2, "rotary_dim": 8},
    "OPTForCausalLM": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 64,
        "vocab_size": 99,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
    },
    "BloomForCausalLM": {"hidden_size": 32, "n_layer": 2, "n_head": 2, "vocab_size": 99},
    "LlamaForCausalLM": _LLAMA,
    "LlamaForSequenceClassification": {**_LLAMA, "pad_token_id": 0},
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": _MOE,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": {**_LLAMA, "head_dim": 16},
    "Qwen2MoeForCausalLM": {
        **_LLAMA,
        "num_experts": 4,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "Gemma2ForCausalLM": {**_LLAMA, "head_dim": 16},
    "PhiForCausalLM": _BERT,
    "FalconForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99},
    "MambaForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "vocab_size": 99},
    "Mamba2ForCausalLM": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 8,
        "vocab_size": 99,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "RwkvForCausalLM": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "attention_hidden_size": 32,
        "vocab_size": 99,
        "context_length": 64,
    },
    "XLNetForSequenceClassification": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "vocab_size": 99},
    "ReformerForSequenceClassification": {
        "vocab_size": 99,
        "hidden_size": 32,
        "attention_head_size": 16,
        "num_attention_heads": 2,
        "feed_forward_size": 64,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [4, 8],
        "axial_pos_embds_dim": [16, 16],
        "max_position_embeddings": 32,
        "is_decoder": False,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 2,
        "num_hashes": 1,
    },
    # encoder and decoder
    "T5ForConditionalGeneration": {**_T5, "decoder_start_token_id": 0},
    "T5EncoderModel": _T5,
    "BartForConditionalGeneration": _BART,
    "BartForSequenceClassification": {**_BART, "pad_token_id": 1, "eos_token_id": 2},
    "MarianMTModel": {**_BART, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
    "PegasusForConditionalGeneration": {**_BART, "pad_token_id": 0, "eos_token_id": 1},
    # images
    "ViTForImageClassification": _VIT,
    "ViTMAEForPreTraining": {
        **_VIT,
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
    },
    "DeiTForImageClassification": _VIT,
    "BeitForImageClassification": {**_VIT, "num_labels": 10},
    "Dinov2ForImageClassification": {**_VIT, "num_labels": 10},
    "SwinForImageClassification": {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
        "num_labels": 10,
    },
    "ConvNextForImageClassification": {
        "hidden_sizes": [8, 16, 32, 32],
        "depths": [1, 1, 1, 1],
        "image_size": 32,
        "num_labels": 10,
    },
    "ResNetForImageClassification": {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
        "num_labels": 10,
    },
    "SegformerForSemanticSegmentation": {
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "num_encoder_blocks": 2,
        "num_attention_heads": [1, 2],
        "sr_ratios": [4, 2],
        "patch_sizes": [7, 3],
        "strides": [4, 2],
        "mlp_ratios": [2, 2],
        "decoder_hidden_size": 16,
        "num_labels": 5,
    },
    "YolosForObjectDetection": {**_VIT, "image_size": [32, 32], "num_detection_tokens": 5, "num_labels": 4},
    # images and text, sound
    "CLIPModel": {
        "text_config": {**_BERT, "eos_token_id": 2, "projection_dim": 16},
        "vision_config": {**_VIT, "projection_dim": 16},
        "projection_dim": 16,
    },
    "CLIPVisionModel": _VIT,
    "Wav2Vec2ForCTC": _AUDIO,
    "Wav2Vec2ForSequenceClassification": _AUDIO,
    "HubertForCTC": _AUDIO,
    "WhisperForConditionalGeneration": {
        **_BART,
        "num_mel_bins": 8,
        "max_source_positions": 32,
        "max_target_positions": 32,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
    },
    "ASTForAudioClassification": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_length": 32,
        "num_mel_bins": 16,
        "num_labels": 10,
    },
}


def build(name: str) -> nn.Module:
    """The model of that class, randomly initialised."""
    import transformers

    architecture = getattr(transformers, name)
    return architecture(architecture.config_class(**TINY[name]))
