"""llama-index-llms-ollama, used as its users do; what it read is printed as one JSON object.

Argument: the URL of a server with the demo model.
"""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

(url,) = sys.argv[1:]
QUESTION = ChatMessage("What is vllm-wsgi?")


class Sky(BaseModel):
    colour: str


def get_current_weather(city: str) -> str:
    """Get the weather of a city."""
    return "21 degrees, sunny"


def model(name: str = "demo", **fields) -> Ollama:
    return Ollama(model=name, base_url=url, request_timeout=120, **{"thinking": False, **fields})


def failure() -> str:
    try:
        model("other").chat([QUESTION])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


whole = model().chat([QUESTION])
called = model().chat_with_tools([FunctionTool.from_defaults(get_current_weather)], "What is the weather in Paris?")
calls = model().get_tool_calls_from_response(called)
thought = model(thinking=True).chat([ChatMessage("Why is the sky blue?")])
print(json.dumps({
    "context": model(context_window=-1).metadata.context_window,
    "chat": whole.message.content,
    "usage": whole.raw["usage"],
    "stream": "".join(part.delta for part in model().stream_chat([QUESTION])),
    "completion": model().complete("What is vllm-wsgi?").text,
    "tools": [{"name": call.tool_name, "args": call.tool_kwargs} for call in calls],
    "thinking": [block.content for block in thought.message.blocks if block.block_type == "thinking"],
    "unknown": failure(),
}))  # fmt: skip
