"""LiteLLM's two Ollama providers, used as its users do; what they read is printed as one JSON object.

Arguments: the URL of a server with the demo model, and of one that embeds. The provider `ollama/` asks /api/generate,
`ollama_chat/` asks /api/chat.
"""

import json
import os
import sys

# Otherwise importing it looks for prices on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

url, embedder = sys.argv[1:]
litellm.suppress_debug_info = True
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(content: str, provider: str = "ollama_chat", name: str = "demo", **fields):
    messages = [{"role": "user", "content": content}]
    return litellm.completion(f"{provider}/{name}", messages, api_base=url, **{"think": False, **fields})


def streamed(provider: str) -> dict:
    parts = list(ask("What is vllm-wsgi?", provider, stream=True))
    return {
        "text": "".join(part.choices[0].delta.content or "" for part in parts),
        "reasons": [part.choices[0].finish_reason for part in parts if part.choices[0].finish_reason],
    }


def failure() -> str:
    try:
        ask("x", name="other")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def calls(answer) -> list[dict]:
    functions = [call.function for call in answer.choices[0].message.tool_calls]
    return [{"name": function.name, "args": json.loads(function.arguments)} for function in functions]


whole = ask("What is vllm-wsgi?")
info = litellm.get_model_info("ollama/demo", api_base=url)
vectors = litellm.embedding("ollama/demo", input=["a", "b"], api_base=embedder).data
print(json.dumps({
    "chat": whole.choices[0].message.content,
    "usage": [whole.usage.prompt_tokens, whole.usage.completion_tokens],
    "generate": ask("What is vllm-wsgi?", "ollama").choices[0].message.content,
    "chat_stream": streamed("ollama_chat"),
    "generate_stream": streamed("ollama"),
    "thinking": ask("Why is the sky blue?", think=True).choices[0].message.reasoning_content,
    "tools": calls(ask("What is the weather in Paris?", tools=[WEATHER])),
    "info": {"max_tokens": info["max_tokens"], "tools": info["supports_function_calling"]},
    "vectors": [len(each["embedding"]) for each in vectors],
    "unknown": failure(),
}))  # fmt: skip
