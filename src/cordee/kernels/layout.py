"""The shapes of llama.cpp's C API that we use: structures, signatures, and the check that a library has these shapes.

The structures are those of llama.h at release 0.5; 0.6 put one more pointer into the context parameters. Both are told
apart, and anything else is refused, by reading a library's own default parameters and comparing them with the
documented defaults: a moved field cannot pass.
"""

from __future__ import annotations

import ctypes as c
from typing import Any

GGML_TYPE_F16 = 1
GGML_TYPE_BF16 = 30
FLASH_ATTENTION_OFF = 0
FLASH_ATTENTION_ON = 1
LOG_LEVELS_KEPT = (3, 4)  # ggml_log_level: 2 info, 3 warning, 4 error, 5 continues a line
TOKEN_ATTR_UNKNOWN = 1
TOKEN_ATTR_CONTROL = 8

Pointer = c.c_void_p


class ModelParams(c.Structure):
    """`struct llama_model_params`."""

    _fields_ = (
        ("devices", Pointer),
        ("tensor_buft_overrides", Pointer),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", Pointer),
        ("progress_callback", Pointer),
        ("progress_callback_user_data", Pointer),
        ("kv_overrides", Pointer),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


_NUMBERS = (
    ("n_ctx", c.c_uint32),
    ("n_batch", c.c_uint32),
    ("n_ubatch", c.c_uint32),
    ("n_seq_max", c.c_uint32),
    ("n_rs_seq", c.c_uint32),
    ("n_outputs_max", c.c_uint32),
    ("n_outputs_max_per_seq", c.c_uint32),
    ("n_threads", c.c_int32),
    ("n_threads_batch", c.c_int32),
    ("ctx_type", c.c_int),
    ("rope_scaling_type", c.c_int),
    ("pooling_type", c.c_int),
    ("attention_type", c.c_int),
    ("flash_attn_type", c.c_int),
    ("rope_freq_base", c.c_float),
    ("rope_freq_scale", c.c_float),
    ("yarn_ext_factor", c.c_float),
    ("yarn_attn_factor", c.c_float),
    ("yarn_beta_fast", c.c_float),
    ("yarn_beta_slow", c.c_float),
    ("yarn_orig_ctx", c.c_uint32),
    ("defrag_thold", c.c_float),
    ("cb_eval", Pointer),
    ("cb_eval_user_data", Pointer),
    ("type_k", c.c_int),
    ("type_v", c.c_int),
    ("abort_callback", Pointer),
    ("abort_callback_data", Pointer),
)
_SWITCHES = (
    ("embeddings", c.c_bool),
    ("offload_kqv", c.c_bool),
    ("no_perf", c.c_bool),
    ("op_offload", c.c_bool),
    ("swa_full", c.c_bool),
    ("kv_unified", c.c_bool),
    ("samplers", Pointer),
    ("n_samplers", c.c_size_t),
    ("ctx_other", Pointer),
)


class ContextParams(c.Structure):
    """`struct llama_context_params` of 0.5."""

    _fields_ = _NUMBERS + _SWITCHES


class ContextParams06(c.Structure):
    """`struct llama_context_params` of 0.6: a pointer more before the switches."""

    _fields_ = (*_NUMBERS, ("added_06", Pointer), *_SWITCHES)


class Batch(c.Structure):
    """`struct llama_batch`."""

    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", Pointer),
        ("embd", Pointer),
        ("pos", Pointer),
        ("n_seq_id", Pointer),
        ("seq_id", Pointer),
        ("logits", Pointer),
    )


LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)

SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_print_system_info": (c.c_char_p, ()),
    "llama_log_set": (None, (LogCallback, Pointer)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (Pointer, (c.c_char_p, ModelParams)),
    "llama_model_free": (None, (Pointer,)),
    "llama_model_get_vocab": (Pointer, (Pointer,)),
    "llama_model_chat_template": (c.c_char_p, (Pointer, c.c_char_p)),
    "llama_model_n_ctx_train": (c.c_int32, (Pointer,)),
    "llama_model_n_embd": (c.c_int32, (Pointer,)),
    "llama_pooling_type": (c.c_int, (Pointer,)),
    "llama_get_embeddings_seq": (Pointer, (Pointer, c.c_int32)),
    "llama_memory_clear": (None, (Pointer, c.c_bool)),
    "llama_init_from_model": (Pointer, (Pointer, ContextParams)),
    "llama_free": (None, (Pointer,)),
    "llama_vocab_n_tokens": (c.c_int32, (Pointer,)),
    "llama_vocab_is_eog": (c.c_bool, (Pointer, c.c_int32)),
    "llama_vocab_get_attr": (c.c_int, (Pointer, c.c_int32)),
    "llama_vocab_get_text": (c.c_char_p, (Pointer, c.c_int32)),
    "llama_vocab_bos": (c.c_int32, (Pointer,)),
    "llama_vocab_eos": (c.c_int32, (Pointer,)),
    "llama_vocab_get_add_bos": (c.c_bool, (Pointer,)),
    "llama_vocab_get_add_eos": (c.c_bool, (Pointer,)),
    "llama_vocab_get_add_sep": (c.c_bool, (Pointer,)),
    "llama_vocab_sep": (c.c_int32, (Pointer,)),
    "llama_tokenize": (c.c_int32, (Pointer, c.c_char_p, c.c_int32, Pointer, c.c_int32, c.c_bool, c.c_bool)),
    "llama_token_to_piece": (c.c_int32, (Pointer, c.c_int32, Pointer, c.c_int32, c.c_int32, c.c_bool)),
    "llama_get_memory": (Pointer, (Pointer,)),
    "llama_memory_seq_rm": (c.c_bool, (Pointer, c.c_int32, c.c_int32, c.c_int32)),
    "llama_memory_seq_cp": (None, (Pointer, c.c_int32, c.c_int32, c.c_int32, c.c_int32)),
    "llama_state_seq_get_size": (c.c_size_t, (Pointer, c.c_int32)),
    "llama_state_seq_get_data": (c.c_size_t, (Pointer, Pointer, c.c_size_t, c.c_int32)),
    "llama_state_seq_set_data": (c.c_size_t, (Pointer, Pointer, c.c_size_t, c.c_int32)),
    "llama_set_n_threads": (None, (Pointer, c.c_int32, c.c_int32)),
    "llama_adapter_lora_init": (Pointer, (Pointer, c.c_char_p)),
    "llama_set_adapters_lora": (c.c_int32, (Pointer, Pointer, c.c_size_t, Pointer)),
    "llama_decode": (c.c_int32, (Pointer, Batch)),
    "llama_get_logits": (Pointer, (Pointer,)),
}


class LayoutError(Exception):
    """The library is not one whose structures we know."""


def declare(library: c.CDLL) -> type[c.Structure]:
    """Give `library` its signatures and return its context-parameter structure. Raises LayoutError."""
    for name, (result, arguments) in SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise LayoutError(f"the library has no function {name}") from None
        function.restype, function.argtypes = result, arguments
    model = library.llama_model_default_params()
    if not (model.use_extra_bufts and not (model.vocab_only or model.no_alloc or model.check_tensors)):
        raise LayoutError(f"the defaults of llama_model_params read {described(model)}")
    for shape in (ContextParams, ContextParams06):
        library.llama_context_default_params.restype = shape
        library.llama_init_from_model.argtypes = (Pointer, shape)
        if has_known_defaults(library.llama_context_default_params()):
            return shape
    found = described(library.llama_context_default_params())
    raise LayoutError(f"the defaults of llama_context_params read {found}")


def has_known_defaults(params: Any) -> bool:
    """Whether context parameters, read with our layout, are the defaults that llama.h documents."""
    return (
        (params.n_batch, params.n_ubatch, params.n_seq_max) == (2048, 512, 1)
        and (params.type_k, params.type_v) == (GGML_TYPE_F16, GGML_TYPE_F16)
        and (params.offload_kqv, params.no_perf, params.embeddings) == (True, True, False)
        and (params.samplers, params.n_samplers, params.ctx_other) == (None, 0, None)
    )


def described(params: c.Structure) -> str:
    return ", ".join(f"{field[0]}={getattr(params, field[0])}" for field in params._fields_)
