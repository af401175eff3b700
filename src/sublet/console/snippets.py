"""The playground's request as a program for each SDK: complete, with the installation's own address and a placeholder for the key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

SHELL_QUOTE = "'\\''"
"""How a single quote is written within single quotes of a shell."""
_PLACE = re.compile(r"@(model|system|prompt|max_tokens|temperature|top_p)@")

_OPENAI = """\
# pip install openai
from openai import OpenAI

client = OpenAI(base_url="@url@/v1", api_key="YOUR_KEY")
stream = client.chat.completions.create(
    model=@model@,
    messages=[
        {"role": "system", "content": @system@},
        {"role": "user", "content": @prompt@},
    ],
    max_tokens=@max_tokens@,
    temperature=@temperature@,
    top_p=@top_p@,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
"""
_OPENAI_JS = """\
// npm install openai
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "@url@/v1", apiKey: "YOUR_KEY" });
const stream = await client.chat.completions.create({
  model: @model@,
  messages: [
    { role: "system", content: @system@ },
    { role: "user", content: @prompt@ },
  ],
  max_tokens: @max_tokens@,
  temperature: @temperature@,
  top_p: @top_p@,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
"""
_ANTHROPIC = """\
# pip install anthropic
from anthropic import Anthropic

client = Anthropic(base_url="@url@", api_key="YOUR_KEY")
with client.messages.stream(
    model=@model@,
    system=@system@,
    messages=[{"role": "user", "content": @prompt@}],
    max_tokens=@max_tokens@,
    extra_body={"temperature": @temperature@, "top_p": @top_p@},
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
"""
_GEMINI = """\
# pip install google-genai
from google import genai

client = genai.Client(api_key="YOUR_KEY", http_options={"base_url": "@url@"})
stream = client.models.generate_content_stream(
    model=@model@,
    contents=@prompt@,
    config={
        "system_instruction": @system@,
        "max_output_tokens": @max_tokens@,
        "temperature": @temperature@,
        "top_p": @top_p@,
    },
)
for chunk in stream:
    print(chunk.text or "", end="", flush=True)
"""
_BEDROCK = """\
# pip install boto3; boto3 sends this key over https only
import os

import boto3

os.environ["AWS_BEARER_TOKEN_BEDROCK"] = "YOUR_KEY"
client = boto3.client("bedrock-runtime", endpoint_url="@url@", region_name="us-east-1")
answer = client.converse_stream(
    modelId=@model@,
    system=[{"text": @system@}],
    messages=[{"role": "user", "content": [{"text": @prompt@}]}],
    inferenceConfig={"maxTokens": @max_tokens@, "temperature": @temperature@, "topP": @top_p@},
)
for event in answer["stream"]:
    if "contentBlockDelta" in event:
        print(event["contentBlockDelta"]["delta"]["text"], end="", flush=True)
"""
_CURL = """\
curl -N @url@/v1/chat/completions \\
  -H "Authorization: Bearer YOUR_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": @model@,
    "messages": [
      {"role": "system", "content": @system@},
      {"role": "user", "content": @prompt@}
    ],
    "max_tokens": @max_tokens@,
    "temperature": @temperature@,
    "top_p": @top_p@,
    "stream": true
  }'
"""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A program. In `template`, `@name@` stands for a value; the page's script fills it in like `filled`, with what is typed."""

    id: str
    label: str
    template: str
    is_shell: bool = False

    def filled(self, values: Mapping[str, object]) -> str:
        """The program with `values`, as literals. A line with an empty `system` is left out."""
        lines = self.template.split("\n")
        if not values["system"]:
            lines = [line for line in lines if "@system@" not in line]

        def literal(found: re.Match[str]) -> str:
            text = json.dumps(values[found[1]], ensure_ascii=False)
            return text.replace("'", SHELL_QUOTE) if self.is_shell else text

        return _PLACE.sub(literal, "\n".join(lines))


def snippets(url: str) -> tuple[Snippet, ...]:
    """Programs that call the model API at `url`."""
    made = (
        ("openai", "OpenAI, Python", _OPENAI),
        ("openai-js", "OpenAI, JavaScript", _OPENAI_JS),
        ("anthropic", "Anthropic, Python", _ANTHROPIC),
        ("gemini", "Google Gen AI, Python", _GEMINI),
        ("bedrock", "Amazon Bedrock, Python", _BEDROCK),
        ("curl", "curl", _CURL),
    )
    return tuple(Snippet(name, label, text.replace("@url@", url), name == "curl") for name, label, text in made)
