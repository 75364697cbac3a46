"""What services' refusals mean, and what of them is shown."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import (
    AccessRefused,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    TextTooLong,
)
from lockstep.models.remote.refusals import SHORTEST_ECHO, SHOWN_MAX, Refusal, message_of

WHO = 'Connection "x"'
PAGE = "<html>\n<head><title>502 Bad Gateway</title><style>h1 { color: red }</style></head><body><h1>nginx</h1></body></html>"


def openai(message: str, code: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(code: int, message: str, status: str, details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details or []}}


GOOGLE_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
VOYAGE_FREE = (
    "You have not yet added your payment method in the billing page and will have reduced rate limits of 3 RPM and 10K "
    "TPM. To unlock our standard rate limits, please add a payment method in the billing page."
)
AZURE_RATE = (
    "Requests to the Embeddings_Create Operation under Azure OpenAI API version 2024-02-01 have exceeded call rate limit "
    "of your current OpenAI S0 pricing tier. Please retry after 6 seconds."
)

# service: status, body, class, what is shown
BODIES: dict[str, tuple[int, Any, type[ProviderError], str]] = {
    "OpenAI, key": (
        401,
        openai("Incorrect API key provided: sk-ab***yz.", "invalid_api_key"),
        AccessRefused,
        "Incorrect API key provided: sk-ab***yz. (invalid_api_key)",
    ),
    "OpenAI, too long": (
        400,
        openai("This model's maximum context length is 8192 tokens, however you requested 9000 tokens.", None),
        TextTooLong,
        "maximum context length is 8192 tokens",
    ),
    "OpenAI, rate": (
        429,
        openai("Rate limit reached for text-embedding-3-small. Limit: 3 / min.", "rate_limit_exceeded", "requests"),
        RateLimited,
        "Rate limit reached",
    ),
    "OpenAI, no credit": (
        429,
        openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"),
        AccessRefused,
        "(insufficient_quota)",
    ),
    "OpenAI, model": (
        404,
        openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found"),
        AccessRefused,
        "`gpt-9` does not exist",
    ),
    "OpenAI, content": (
        400,
        openai("The input was rejected by our content policy.", None),
        ProviderRejected,
        "content policy. (invalid_request_error)",
    ),
    "OpenAI, fault": (
        500,
        openai("The server had an error while processing your request.", None, "server_error"),
        ProviderUnavailable,
        "The server had an error",
    ),
    "Azure, rate": (429, {"error": {"code": "429", "message": AZURE_RATE}}, RateLimited, "(429)"),
    "Azure, key": (
        401,
        {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}},
        AccessRefused,
        "invalid subscription key",
    ),
    "Azure, deployment": (
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        AccessRefused,
        "(DeploymentNotFound)",
    ),
    "Azure, gateway": (
        404,
        {"statusCode": 404, "message": "Resource not found"},
        AccessRefused,
        "Resource not found",
    ),
    "Mistral, fields": (
        422,
        {"detail": [{"type": "missing", "loc": ["body", "input"], "msg": "Field required", "input": {"model": "m"}}]},
        ProviderRejected,
        "Field required",
    ),
    "Mistral, too long": (
        400,
        {
            "object": "error",
            "message": "Too many tokens in batch. Max is 16384 got 20000",
            "type": "invalid_request_error",
        },
        TextTooLong,
        "Max is 16384",
    ),
    "Mistral, rate": (429, {"message": "Requests rate limit exceeded"}, RateLimited, "Requests rate limit exceeded"),
    "Mistral, key": (401, {"detail": "Unauthorized"}, AccessRefused, "Unauthorized"),
    "Voyage, too long": (
        400,
        {"detail": "Request to model 'voyage-4' failed. The max allowed tokens per submitted batch is 120000."},
        TextTooLong,
        "120000",
    ),
    "Voyage, free account": (429, {"detail": VOYAGE_FREE}, RateLimited, "3 RPM"),
    "Voyage, key": (401, {"detail": "Provided API key is invalid."}, AccessRefused, "Provided API key is invalid."),
    "Cohere, key": (401, {"id": "1", "message": "invalid api token"}, AccessRefused, "invalid api token"),
    "Cohere, trial": (
        429,
        {"message": "You are using a Trial key, which is limited to 100 API calls / minute."},
        RateLimited,
        "100 API calls / minute",
    ),
    "Cohere, too many": (
        400,
        {"message": "invalid request: total number of texts must be at most 96"},
        ProviderRejected,
        "at most 96",
    ),
    "Cohere, closed": (499, {"message": "request cancelled by user"}, ProviderUnavailable, "cancelled"),
    "Google, key": (
        400,
        google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
        AccessRefused,
        "API key not valid",
    ),
    "Google, rate": (
        429,
        google(
            429,
            GOOGLE_QUOTA,
            "RESOURCE_EXHAUSTED",
            [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "20s"}],
        ),
        RateLimited,
        "You exceeded your current quota",
    ),
    "Google, argument": (
        400,
        google(400, "Request contains an invalid argument.", "INVALID_ARGUMENT"),
        ProviderRejected,
        "invalid argument",
    ),
    "Google, overload": (
        503,
        google(503, "The model is overloaded.", "UNAVAILABLE"),
        ProviderUnavailable,
        "The model is overloaded.",
    ),
    "Vertex, in a list": (
        403,
        [google(403, "Permission 'aiplatform.endpoints.predict' denied", "PERMISSION_DENIED")],
        AccessRefused,
        "Permission",
    ),
    "Hugging Face, loading": (
        503,
        {"error": "Model BAAI/bge-m3 is currently loading", "estimated_time": 20.0},
        ProviderUnavailable,
        "currently loading",
    ),
    "Hugging Face, several": (
        400,
        {"error": ["Error in `inputs`: field required"], "warnings": []},
        ProviderRejected,
        "field required",
    ),
    "Hugging Face, credit": (
        402,
        {"error": "You have exceeded your monthly included credits for Inference Providers."},
        AccessRefused,
        "monthly included credits",
    ),
    "TEI, too long": (
        413,
        {
            "error": "Input validation error: `inputs` must have less than 512 tokens. Given: 600",
            "error_type": "Validation",
        },
        TextTooLong,
        "512 tokens. Given: 600 (Validation)",
    ),
    "TEI, too long, as of 1.8": (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 512 tokens. Given: 600",
            "error_type": "Validation",
        },
        TextTooLong,
        "512 tokens",
    ),
    "TEI, overload": (
        429,
        {"error": "Model is overloaded", "error_type": "overloaded"},
        RateLimited,
        "Model is overloaded",
    ),
    "Ollama, model": (
        404,
        {"error": 'model "nomic" not found, try pulling it first'},
        AccessRefused,
        "try pulling it first",
    ),
    "Ollama, too long": (
        400,
        {"error": "the input length exceeds the context length"},
        TextTooLong,
        "exceeds the context length",
    ),
    "Bedrock, too long": (
        400,
        {"message": "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9000"},
        TextTooLong,
        "Max input tokens: 8192",
    ),
    "Bedrock, rate": (
        429,
        {"message": "Too many tokens, please wait before trying again."},
        RateLimited,
        "please wait",
    ),
    "Bedrock, access": (
        403,
        {"Message": "User is not authorized to perform: bedrock:InvokeModel"},
        AccessRefused,
        "bedrock:InvokeModel",
    ),
    "Bedrock, expired": (
        403,
        {"message": "The security token included in the request is expired"},
        AccessRefused,
        "is expired",
    ),
    "DashScope, account": (
        400,
        {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."},
        AccessRefused,
        "(Arrearage)",
    ),
    "DeepSeek, balance": (402, openai("Insufficient Balance", None), AccessRefused, "Insufficient Balance"),
    "a page": (502, PAGE, ProviderUnavailable, "502 Bad Gateway nginx"),
    "a page for a moved address": (301, "<h1>Moved</h1>", AccessRefused, "Moved"),
    "a page that is too large": (413, "<html>413 Request Entity Too Large</html>", TextTooLong, "Too Large"),
    "plain words": (504, "upstream request timeout", ProviderUnavailable, "upstream request timeout"),
    "empty, 401": (401, "", AccessRefused, "answered 401."),
    "empty, 400": (400, "", ProviderRejected, "answered 400."),
    "empty, 429": (429, "", RateLimited, "answered 429."),
    "empty, 529": (529, "", ProviderUnavailable, "answered 529."),
    "JSON without a message": (500, {"ok": False}, ProviderUnavailable, "answered 500."),
    "a flag and a message": (400, {"error": True, "message": "No."}, ProviderRejected, "No."),
}


def error_of(status: int, body: Any, secrets: tuple[str, ...] = (), texts: tuple[str, ...] = ()) -> ProviderError:
    raw = body if isinstance(body, str) else json.dumps(body)
    return Refusal(status, {}, raw.encode()).error(WHO, secrets, texts)


@pytest.mark.parametrize("service", BODIES)
def test_what_a_refusal_means_and_what_is_shown_of_it(service: str) -> None:
    """The class says what to do; the message says who, the status, and the service's own words."""
    status, body, kind, shown = BODIES[service]
    error = error_of(status, body)
    assert type(error) is kind
    assert error.message.startswith(f"{WHO} answered {status}")
    assert shown in error.message
    assert len(error.message) < SHOWN_MAX + 60
    assert "<" not in error.message
    if kind in (AccessRefused, ProviderUnavailable, RateLimited, TextTooLong):
        assert error.hint


def test_when_to_come_again_is_what_the_service_says() -> None:
    """In a header, or where Google puts it; nothing when it says nothing, for then the pace decides."""
    quota = google(429, "x", "RESOURCE_EXHAUSTED", [{"retryDelay": "20.5s"}])
    for headers, body, expected in (
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after": "7"}, json.dumps(quota).encode(), 7.0),
        ({}, json.dumps(quota).encode(), 20.5),
        ({}, b'{"retryDelay": "soon"}', 0.0),
        ({}, b"", 0.0),
    ):
        error = Refusal(429, headers, body).error(WHO, (), ())
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == expected


def test_a_long_answer_is_cut() -> None:
    """A message is for reading."""
    assert len(error_of(500, "x " * 100_000).message) < SHOWN_MAX + 60


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_no_body_is_an_error_of_ours(body: bytes) -> None:
    """Services send what they like."""
    assert "\n" not in message_of(body)
    assert Refusal(500, {}, body).error(WHO, ("secret",), ("text",)).message.startswith(WHO)


@pytest.mark.parametrize("body", ["[" * 50_000, '{"error":' * 20_000 + "1" + "}" * 20_000])
def test_a_body_that_is_nested_deeply_is_no_crash(body: str) -> None:
    """It is shown as it is, cut."""
    assert type(error_of(500, body)) is ProviderUnavailable


LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"))
TEXTS = st.lists(st.text(LETTERS, min_size=1), min_size=1, max_size=12).map(" \n\t ".join)


@settings(max_examples=50, deadline=None)
@given(
    text=TEXTS.filter(lambda text: len(" ".join(text.split())) > SHORTEST_ECHO),
    share=st.floats(0, 1),
    quoted=st.sampled_from(['Bad input: "{}" was not liked', "{}", "<b>{}</b>", "a {} b {} c"]),
    as_json=st.booleans(),
)
def test_a_text_that_is_echoed_is_not_shown(text: str, share: float, quoted: str, as_json: bool) -> None:
    """Wholly or by its beginning, in JSON or not: what was sent is in no message."""
    end = max(SHORTEST_ECHO + text.count("\n") * 4, int(share * len(text)))
    said = quoted.replace("{}", text[:end])
    message = error_of(400, {"error": {"message": said}} if as_json else said.replace("<", " "), texts=(text,)).message
    assert " ".join(text.split())[:SHORTEST_ECHO] not in message


@pytest.mark.parametrize("written", [repr, json.dumps, html.escape, str])
def test_a_text_that_is_echoed_with_escapes_is_not_shown(written: Callable[[str], str]) -> None:
    """Servers show input as their language writes it; no piece of it that says anything is left."""
    text = 'To "Ann":\nyour balance is 12345 euros\tand it is falling & Zoë knows about all of it'
    message = error_of(400, {"error": f"bad input {written(text)}"}, texts=(text,)).message
    assert "bad input" in message
    assert not any(word in message for word in ("balance", "12345", "falling", "about"))


@settings(max_examples=50, deadline=None)
@given(
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=80),
    before=st.text(LETTERS, max_size=400),
)
def test_a_key_that_is_echoed_is_not_shown(key: str, before: str) -> None:
    """Not even where the message is cut."""
    message = error_of(401, {"error": f"{before} Bad key {key}, {key}"}, secrets=(key,)).message
    assert key not in message


def test_a_short_text_is_not_shown_either() -> None:
    """Unless it is so short that it says nothing."""
    assert "secrets!" not in error_of(400, {"error": 'cannot embed "secrets!"'}, texts=("secrets!",)).message
    assert "cannot" in error_of(400, {"error": "cannot embed"}, texts=("a", "", " ")).message


@pytest.mark.parametrize("words", ["billing and payment", "maximum context length", "API key not valid", "rate limit"])
@pytest.mark.parametrize("status", [400, 422, 403, 429])
def test_what_a_text_says_does_not_decide_what_a_refusal_means(status: int, words: str) -> None:
    """A text about billing that is echoed does not stop the whole task."""
    text = f"{words}: what our customers ask, and what we answer"
    plain = error_of(status, {"error": "cannot embed it"})
    assert type(error_of(status, {"error": f'cannot embed "{text}"'}, texts=(text,))) is type(plain)
