"""Examples of answers, by the id of the operation; tests hold each against its schema. Vectors are cut short."""

from typing import Any

MODEL, THINKER, EMBEDDER = "llama3.2:3b", "qwen3:8b", "nomic-embed-text"
TEXT = "Blue light scatters most."
_ID = "01a2b3c4d5e67f898a0b1c2d3e4f5a6b"
_CREATED_S = 1_795_278_670
_CREATED_AT = "2026-11-21T18:31:10.102938475Z"
_DIGEST = "19440ca38787eab5bcb2dc852979f951ee2b720055e52d6ddd9fe39520ea7cd2"
_BACKEND = "10.0.0.5:11434"
_VECTOR = [0.1338, -0.4959, 0.858]
_USAGE = {"prompt_tokens": 26, "completion_tokens": 5, "total_tokens": 31}
_THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 0}}
_ABOUT = {"created": _CREATED_S, "model": MODEL, "system_fingerprint": "fp_llm_gateway"}
_CACHED = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_ENDED = {
    "done_reason": "stop",
    "total_duration": 182_000_000,
    "load_duration": 1_700_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_000_000,
    "eval_count": 5,
    "eval_duration": 50_000_000,
}
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
    "context_length": 131_072,
    "embedding_length": 3_072,
}
_TAG = {"name": MODEL, "model": MODEL, "size": 2_019_393_189, "digest": _DIGEST, "details": _DETAILS}
_ENTRY = {"id": MODEL, "object": "model", "created": _CREATED_S, "owned_by": "library"}
_GENERATED = {
    "response": TEXT,
    "done": True,
    "done_reason": "stop",
    "model": MODEL,
    "id": "01a2b3c4-d5e6-7f89-8a0b-1c2d3e4f5a6b",
    "usage": _USAGE,
}
ACCOUNT = {
    "requests_per_min": {"limit": 20, "left": 19, "reset_seconds": 3.0},
    "tokens_per_min": None,
    "model_limits": [
        {
            "models": "llama3*",
            "requests_per_min": {"limit": 5, "left": 4, "reset_seconds": 12.0},
            "tokens_per_min": None,
        }
    ],
    "monthly_tokens": {"month": "2026-11", "limit": None, "spent": 31, "held": 0},
    "credits": {"balance": 99.97, "held": 0.0, "granted": 100.0, "charged": 0.03},
    "concurrency": {"limit": None, "now": 0},
    "would_refuse": {},
}
"""what a key or a team may do and has used"""
_USED = {
    "calls": 3,
    "prompt_tokens": 78,
    "completion_tokens": 15,
    "total_tokens": 93,
    "credits": 3,
    "gpu_seconds": 0.42,
}
USAGE = ACCOUNT | {
    "key_id": "0123456789",
    "team": None,
    "by_day": [{"day": "2026-11-21", **_USED}],
    "by_model": [{"model": MODEL, **_USED}],
}
_MESSAGE_ITEM = {
    "id": f"msg_{_ID}0",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}],
}
_RESPONSE = {
    "id": f"resp_{_ID}",
    "object": "response",
    "created_at": _CREATED_S,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": MODEL,
    "output": [_MESSAGE_ITEM],
    "usage": {
        "input_tokens": 26,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 31,
    },
    "instructions": None,
    "tools": [],
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "temperature": None,
    "top_p": None,
    "top_logprobs": 0,
    "max_output_tokens": None,
    "reasoning": {"effort": None, "summary": None},
    "truncation": "auto",
    "metadata": {},
    "user": None,
    "safety_identifier": None,
    "previous_response_id": None,
    "background": False,
    "store": False,
}

ANSWERS: dict[str, Any] = {
    "chat": {
        "id": f"chatcmpl-{_ID}",
        "object": "chat.completion",
        **_ABOUT,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": _USAGE | _THOUGHT,
    },
    "completions": {
        "id": f"cmpl-{_ID}",
        "object": "text_completion",
        **_ABOUT,
        "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
        "usage": _USAGE,
    },
    "embeddings": {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": _VECTOR} for index in (0, 1)],
        "model": EMBEDDER,
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    },
    "responses": _RESPONSE,
    "messages": {
        "id": f"msg_{_ID}",
        "type": "message",
        "role": "assistant",
        "model": THINKER,
        "content": [{"type": "text", "text": TEXT, "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 26, "output_tokens": 5, **_CACHED, "output_tokens_details": {"thinking_tokens": 0}},
    },
    "countTokens": {"input_tokens": 26},
    "nativeChat": {
        "model": MODEL,
        "created_at": _CREATED_AT,
        "message": {"role": "assistant", "content": TEXT},
        "done": True,
        **_ENDED,
    },
    "nativeGenerate": {
        "model": MODEL,
        "created_at": _CREATED_AT,
        "response": TEXT,
        "done": True,
        **_ENDED,
        "context": [128_006, 882, 128_007],
    },
    "nativeEmbed": {
        "model": EMBEDDER,
        "embeddings": [_VECTOR],
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 2,
    },
    "nativeEmbeddings": {"embedding": _VECTOR},
    "generate": _GENERATED,
    "generatePlain": _GENERATED,
    "generateWith": _GENERATED,
    "listModels": {"object": "list", "data": [_ENTRY]},
    "retrieveModel": _ENTRY,
    "retrieveModelPull": _ENTRY | {"id": "pull:latest"},
    "tags": {"models": [_TAG | {"modified_at": _CREATED_AT, "capabilities": ["completion", "tools"]}]},
    "ps": {
        "models": [
            _TAG | {"expires_at": _CREATED_AT, "size_vram": 2_019_393_189, "context_length": 4_096},
        ]
    },
    "show": {
        "modelfile": f"FROM {MODEL}\n",
        "template": "{{ .Prompt }}",
        "details": _DETAILS,
        "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
        "capabilities": ["completion", "tools"],
        "modified_at": _CREATED_AT,
    },
    "version": {"version": "0.33.0"},
    "usage": USAGE,
    "pullModel": {"done": True, "pulled": [_BACKEND], "failed": {}},
    "info": {
        "name": "LLM Gateway",
        "version": "0.1.0",
        "docs": "/docs",
        "reference": "/redoc",
        "openapi": "/openapi.json",
    },
    "health": {"status": "ok"},
    "ready": {
        "ready": True,
        "draining": False,
        "redis": "ok",
        "keys": "loaded",
        "postgres": "ok",
        "backends": {_BACKEND: "up"},
    },
    "metrics": "# TYPE gateway_running_calls gauge\ngateway_running_calls 0.0\n",
}

_PIECE = {"response": "Blue", "done": False}
STREAMED: dict[str, dict[str, Any]] = {
    "chat": {
        "id": f"chatcmpl-{_ID}",
        "object": "chat.completion.chunk",
        **_ABOUT,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "Blue"},
                "finish_reason": None,
                "logprobs": None,
            }
        ],
    },
    "completions": {
        "id": f"cmpl-{_ID}",
        "object": "text_completion",
        **_ABOUT,
        "choices": [{"index": 0, "text": "Blue", "finish_reason": None, "logprobs": None}],
    },
    "responses": {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        "item_id": f"msg_{_ID}0",
        "output_index": 0,
        "content_index": 0,
        "delta": "Blue",
        "logprobs": [],
    },
    "messages": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Blue"}},
    "nativeChat": {
        "model": MODEL,
        "created_at": _CREATED_AT,
        "message": {"role": "assistant", "content": "Blue"},
        "done": False,
    },
    "nativeGenerate": {"model": MODEL, "created_at": _CREATED_AT, "response": "Blue", "done": False},
    "generate": _PIECE,
    "generatePlain": _PIECE,
    "generateWith": _PIECE,
    "pullModel": {
        "backend": _BACKEND,
        "status": "pulling 74701a8c35f6",
        "digest": "sha256:74701a8c35f6",
        "total": 1_321_082_688,
        "completed": 13_210_826,
    },
}
"""one line or event of each stream, from its midst"""
