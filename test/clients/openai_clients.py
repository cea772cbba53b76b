"""Calls Warmpath with OpenAI's own client. Prints one JSON line a case: {"case", "ok", "saw"}.

usage: openai_clients.py HTTP   (host:port)
"""
import sys

import openai

from cases import case, finish, refused

base = f"http://{sys.argv[1]}"
QUESTION = [{"role": "user", "content": "The capital of France?"}]

for prefix in ("/v1", "/openai/v1"):
    client = openai.OpenAI(base_url=base + prefix, api_key="none", max_retries=0, timeout=20)
    for attempt in ("cold", "warm"):
        case(f"{prefix}: {attempt} chat", lambda: client.chat.completions.create(
            model="smol", messages=QUESTION).choices[0].message.content == "Paris")
    case(f"{prefix}: completion", lambda: client.completions.create(model="smol", prompt="?").choices[0].text == "Paris")
    case(f"{prefix}: embedding", lambda: client.embeddings.create(model="smol", input="?", encoding_format="float").data[0].embedding == [0.5, 0.25])
    case(f"{prefix}: answer names the model", lambda: client.completions.create(model="smol", prompt="?").model == "smol")
    case(f"{prefix}: unknown model", lambda: refused(
        lambda: client.chat.completions.create(model="nope", messages=QUESTION), openai.NotFoundError, "nope"))
    case(f"{prefix}: malformed name", lambda: refused(
        lambda: client.chat.completions.create(model="a/b", messages=QUESTION), openai.BadRequestError, "must not contain"))
client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0, timeout=20)
case("models are listed", lambda: any(model.id == "smol" for model in client.models.list()))
finish()
