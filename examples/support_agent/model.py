"""Where the support agent's answers come from.

With ``OPENAI_BASE_URL`` set: the OpenAI-compatible endpoint there, with ``OPENAI_API_KEY`` as its
key and ``OPENAI_MODEL`` as the model's name. Without: the policy engine of ``policy_matcher.py``,
which is not a language model and is recorded as what it is (provider ``example``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import urllib3

import loopgrid
import policy_matcher

_HTTP_OK = 200
_TIMEOUT_S = 60.0


def default_model(environ: Mapping[str, str] = os.environ) -> loopgrid.Model:
    """The model that the environment asks for."""
    if environ.get("OPENAI_BASE_URL"):
        return loopgrid.Model("openai", environ.get("OPENAI_MODEL", "gpt-4o-mini"), temperature=0.0)
    return loopgrid.Model("example", "policy-matcher")


def answer(model: loopgrid.Model, prompt_text: str) -> dict[str, str]:
    """Action and response of `model` for a rendered prompt.

    Raises:
        policy_matcher.PolicyError: the prompt holds no policy that the engine can follow.
        RuntimeError: the endpoint is not set, or did not answer with a completion.
    """
    if model.provider == "example":
        return policy_matcher.decide(prompt_text)
    return _as_reply(_complete(model, prompt_text))


def _complete(model: loopgrid.Model, prompt_text: str) -> str:
    base_url = os.environ.get("OPENAI_BASE_URL")
    if not base_url:
        raise RuntimeError(
            f"model {model.name!r} needs an endpoint; set OPENAI_BASE_URL (and OPENAI_API_KEY)."
        )
    headers = {"content-type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    request: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": "user", "content": prompt_text}],
        **dict(model.parameters),
    }
    url = f"{base_url.rstrip('/')}/chat/completions"
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False) as pool:
            answered = pool.request("POST", url, body=json.dumps(request).encode(), headers=headers)
    except urllib3.exceptions.HTTPError as error:
        raise RuntimeError(f"no answer from {url}: {error}; check OPENAI_BASE_URL.") from error
    if answered.status != _HTTP_OK:
        raise RuntimeError(
            f"{url} answered {answered.status}: {answered.data[:200].decode(errors='replace')}"
        )
    try:
        return str(answered.json()["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError) as error:
        raise RuntimeError(f"{url} did not answer with a chat completion; check OPENAI_BASE_URL.") from error


def _as_reply(text: str) -> dict[str, str]:
    """The JSON object that the prompt asks for, or the plain text where the model ignored that."""
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        reply = json.loads(bare)
    except ValueError:
        return {"action": "none_stated", "response": text}
    if not isinstance(reply, dict) or not {"action", "response"} <= reply.keys():
        return {"action": "none_stated", "response": text}
    return {"action": str(reply["action"]), "response": str(reply["response"])}
