"""The table of services: who speaks which protocol, where, with which key, and how much of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of service."""

    adapter: str = "openai:open_openai"
    """`module:function` under `services`; it makes a wire from a URI and a connection."""
    title: str = ""
    """As people call it."""
    base_url: str | None = None
    """Where it is when a connection does not say; None: a connection must."""
    base_url_env: str | None = None
    """An environment variable that says where it is, for the default connection."""
    key_env: str | None = None
    """The environment variable that its users keep their key in; None: it takes no key."""
    needs_key: bool = True
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    auth: str | None = None
    """`module:function` under `services` of what signs its requests, where a key in a header does not do."""
    extra: str | None = None
    """What to install for it: `pip install 'lockstep[extra]'`."""
    settings: tuple[str, ...] = ()
    """What a connection of this kind may say beside what all may."""
    settings_env: Mapping[str, str] = field(default_factory=dict)
    """Where the default connection finds those: setting -> environment variable."""
    options: tuple[str, ...] = ()
    """What a model's URI may say beside `dimensions`."""
    texts_max: int = 2048
    tokens_max: int | None = None
    """Most tokens in one request, all texts together."""
    dimensions_field: str = "dimensions"
    base64_field: str | None = "encoding_format"
    """The field that asks for base64, a quarter of the bytes; None for services that only give lists of numbers."""
    document_fields: Mapping[str, Any] = field(default_factory=dict)
    query_fields: Mapping[str, Any] = field(default_factory=dict)
    batch: str | None = None
    """`module:function` under `batches` of its batch endpoint, for those that have one."""


# Addresses, key variables and limits are those of each service's own reference; where none is published, the most that
# its users report to work.
KINDS: dict[str, Kind] = {
    "openai": Kind(
        title="OpenAI, and any server that speaks its protocol",
        base_url="https://api.openai.com/v1",
        base_url_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        settings=("organization", "project"),
        settings_env={"organization": "OPENAI_ORG_ID", "project": "OPENAI_PROJECT_ID"},
        batch="openai:open_openai",
        tokens_max=300_000,
    ),
    "mistral": Kind(
        title="Mistral AI",
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        dimensions_field="output_dimension",
        batch="mistral:open_mistral",
        texts_max=256,
        tokens_max=16_000,
    ),
    "together": Kind(
        title="Together AI",
        base_url="https://api.together.xyz/v1",
        key_env="TOGETHER_API_KEY",
        base64_field=None,
        texts_max=128,
    ),
    "fireworks": Kind(
        title="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
        base64_field=None,
        options=("prompt_template", "normalize"),
    ),
    "deepinfra": Kind(
        title="DeepInfra",
        base_url="https://api.deepinfra.com/v1/openai",
        key_env="DEEPINFRA_TOKEN",
        texts_max=1024,
    ),
    "siliconflow": Kind(
        title="SiliconFlow",
        base_url="https://api.siliconflow.cn/v1",
        key_env="SILICONFLOW_API_KEY",
        texts_max=32,
    ),
    "jina": Kind(
        title="Jina AI",
        base_url="https://api.jina.ai/v1",
        key_env="JINA_API_KEY",
        base64_field="embedding_type",
        options=("task", "normalized"),
        texts_max=512,
        document_fields={"task": "retrieval.passage"},
        query_fields={"task": "retrieval.query"},
    ),
    "nomic": Kind(
        adapter="nomic:open_nomic",
        title="Nomic Atlas",
        base_url="https://api-atlas.nomic.ai/v1",
        key_env="NOMIC_API_KEY",
        options=("task_type",),
        texts_max=256,
    ),
    "voyage": Kind(
        adapter="voyage:open_voyage",
        title="Voyage AI",
        base_url="https://api.voyageai.com/v1",
        key_env="VOYAGE_API_KEY",
        options=("output_dtype",),
        batch="voyage:open_voyage",
        texts_max=1000,
        tokens_max=120_000,
    ),
    "cohere": Kind(
        adapter="cohere:open_cohere",
        title="Cohere",
        base_url="https://api.cohere.com",
        base_url_env="CO_API_URL",
        key_env="CO_API_KEY",
        options=("input_type",),
        texts_max=96,
    ),
    "google": Kind(
        adapter="google:open_google",
        title="Google's Gemini API",
        base_url="https://generativelanguage.googleapis.com",
        key_env="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        key_prefix="",
        auth="google:open_auth",
        settings=("api_version",),
        options=("task_type",),
        batch="google:open_google",
        texts_max=100,
    ),
    "vertex": Kind(
        adapter="vertex:open_vertex",
        title="Google Cloud's Vertex AI",
        base_url="https://aiplatform.googleapis.com",
        key_env="GOOGLE_APPLICATION_CREDENTIALS",
        auth="vertex:open_auth",
        extra="vertex",
        settings=("project", "location"),
        settings_env={"project": "GOOGLE_CLOUD_PROJECT", "location": "GOOGLE_CLOUD_LOCATION"},
        options=("task_type",),
        texts_max=250,
        tokens_max=20_000,
    ),
    "dashscope": Kind(
        adapter="dashscope:open_dashscope",
        title="Alibaba's DashScope",
        base_url="https://dashscope.aliyuncs.com/api/v1",
        base_url_env="DASHSCOPE_HTTP_BASE_URL",
        key_env="DASHSCOPE_API_KEY",
        settings=("workspace",),
        settings_env={"workspace": "DASHSCOPE_WORKSPACE_ID"},
        options=("instruct",),
        texts_max=10,
    ),
    "dashscope-compatible": Kind(
        title="DashScope in OpenAI's protocol",
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        key_env="DASHSCOPE_API_KEY",
        base64_field=None,
        texts_max=10,
    ),
    "deepseek": Kind(
        title="DeepSeek (its own service has no embeddings yet; proxies of it may)",
        base_url="https://api.deepseek.com/v1",
        key_env="DEEPSEEK_API_KEY",
        base64_field=None,
    ),
    "openrouter": Kind(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        options=("input_type",),
        texts_max=256,
    ),
    "github": Kind(
        title="GitHub Models",
        base_url="https://models.github.ai/inference",
        key_env="GITHUB_TOKEN",
        tokens_max=64_000,
    ),
    "ollama-openai": Kind(
        title="Ollama in OpenAI's protocol", base_url="http://localhost:11434/v1", needs_key=False, texts_max=256
    ),
    "vllm": Kind(
        title="vLLM",
        base_url="http://localhost:8000/v1",
        key_env="VLLM_API_KEY",
        needs_key=False,
        options=("truncate_prompt_tokens", "add_special_tokens"),
    ),
    "llama-cpp": Kind(
        title="llama.cpp's server",
        base_url="http://localhost:8080/v1",
        key_env="LLAMA_API_KEY",
        needs_key=False,
        base64_field=None,
        texts_max=256,
    ),
    "lm-studio": Kind(
        title="LM Studio", base_url="http://localhost:1234/v1", needs_key=False, base64_field=None, texts_max=256
    ),
    "tei-openai": Kind(
        title="Text Embeddings Inference in OpenAI's protocol",
        base_url="http://localhost:8080/v1",
        key_env="HF_TOKEN",
        needs_key=False,
        texts_max=32,
    ),
    "azure": Kind(
        adapter="azure:open_azure",
        title="Azure OpenAI",
        base_url_env="AZURE_OPENAI_ENDPOINT",
        key_env="AZURE_OPENAI_API_KEY",
        key_header="api-key",
        key_prefix="",
        auth="azure:open_auth",
        settings=("api_version", "active_directory"),
        settings_env={"api_version": "OPENAI_API_VERSION"},
        options=("model",),
        batch="openai:open_azure",
        tokens_max=300_000,
    ),
    "huggingface": Kind(
        adapter="huggingface:open_huggingface",
        title="Hugging Face Inference",
        base_url="https://router.huggingface.co/hf-inference",
        key_env="HF_TOKEN",
        options=("normalize", "prompt_name", "query_prompt_name"),
        texts_max=32,
    ),
    "tei": Kind(
        adapter="tei:open_tei",
        title="Text Embeddings Inference",
        needs_key=False,
        options=("normalize", "prompt_name", "query_prompt_name"),
        texts_max=32,
    ),
    # The key is for private Spaces, and none goes out by itself: a Space is a stranger's program.
    "spaces": Kind(
        adapter="spaces:open_space",
        title="Hugging Face Spaces, and other Gradio apps",
        needs_key=False,
        key_header="X-HF-Authorization",
        options=("instruction", "query_instruction", "api_name", "gradio"),
        texts_max=32,
    ),
    "ollama": Kind(
        adapter="ollama:open_ollama",
        title="Ollama",
        base_url="http://localhost:11434",
        needs_key=False,
        settings=("host",),
        settings_env={"host": "OLLAMA_HOST"},
        options=("keep_alive", "legacy"),
        texts_max=256,
    ),
    "bedrock": Kind(
        adapter="bedrock:open_bedrock",
        title="Amazon Bedrock",
        needs_key=False,
        auth="bedrock:open_auth",
        extra="bedrock",
        settings=("region", "profile"),
        settings_env={"region": "AWS_REGION", "profile": "AWS_PROFILE"},
        options=("normalize", "family"),
        texts_max=96,
    ),
    "http": Kind(
        adapter="described:open_http",
        title="A service described in a file",
        needs_key=False,
        auth="described:open_auth",
        settings=("key_header", "key_prefix"),
    ),
}
