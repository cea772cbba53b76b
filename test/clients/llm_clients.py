"""Talks to a real language model through Warmpath with OpenAI's own client. Prints one JSON line a case.

usage: llm_clients.py HTTP   (host:port)
"""
import sys

import openai

from cases import case, finish, refused

client = openai.OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="none", max_retries=0, timeout=120)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def whole(model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.model == model, answer.model


def streamed(model):
    parts = [part for part in client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, stream=True)]
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert "Paris" in text and len(parts) > 3, (text, len(parts))
    assert all(part.model == model for part in parts)


case("a cold model, whole", lambda: whole("smol"))
case("a warm model, streamed", lambda: streamed("smol"))
case("another cold model, streamed", lambda: streamed("smol-two"))
case("an unknown model", lambda: refused(lambda: whole("nope"), openai.NotFoundError, "nope"))
finish()
