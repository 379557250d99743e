"""langchain-ollama, used as its users do; what it read is printed as one JSON object.

Arguments: the URL of a server with the demo model, and of one that embeds.
"""

import json
import sys

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

url, embedder = sys.argv[1:]
SCHEMA = {"title": "Sky", "type": "object", "properties": {"colour": {"enum": ["blue", "red"]}}, "required": ["colour"]}


def get_current_weather(city: str) -> str:
    """Get the weather of a city."""
    return "21 degrees, sunny"


def model(**fields) -> ChatOllama:
    # It asks /api/tags first whether the model is there.
    return ChatOllama(model="demo", base_url=url, validate_model_on_init=True, **{"reasoning": False, **fields})


def tools() -> dict:
    question = HumanMessage("What is the weather in Paris?")
    asked = model().bind_tools([get_current_weather]).invoke([question])
    result = ToolMessage("21 degrees, sunny", tool_call_id=asked.tool_calls[0]["id"])
    said = model().bind_tools([get_current_weather]).invoke([question, asked, result])
    calls = [{"name": call["name"], "args": call["args"]} for call in asked.tool_calls]
    return {"calls": calls, "reason": asked.response_metadata["done_reason"], "said": said.content}


def failure(ask) -> str:
    try:
        ask()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


whole = model().invoke("What is vllm-wsgi?")
parts = list(model().stream("What is vllm-wsgi?"))
thought = model(reasoning=True).invoke("Why is the sky blue?")
turns = [HumanMessage("My name is Anna."), AIMessage("Nice to meet you, Anna."), HumanMessage("What is my name?")]
structured = model(num_predict=60).with_structured_output(SCHEMA, method="json_schema")
print(json.dumps({
    "chat": whole.content,
    "usage": whole.usage_metadata,
    "pieces": len(parts),
    "stream": "".join(part.content for part in parts),
    "end": [part.response_metadata.get("done_reason") for part in parts if part.response_metadata],
    "completion": OllamaLLM(model="demo", base_url=url, reasoning=False).invoke("What is vllm-wsgi?"),
    "thinking": thought.additional_kwargs["reasoning_content"],
    "remembered": model().invoke(turns).content,
    "tools": tools(),
    "structured": structured.invoke("Which colour is the sky?"),
    "vectors": [len(v) for v in OllamaEmbeddings(model="demo", base_url=embedder).embed_documents(["a", "b"])],
    "unknown": failure(lambda: ChatOllama(model="other", base_url=url).invoke("x")),
    "missing": failure(lambda: ChatOllama(model="other", base_url=url, validate_model_on_init=True)),
}))  # fmt: skip
