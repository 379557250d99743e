"""Agents of Python libraries against a scripted engine; what each ended with is printed as one JSON object.

Argument: the URL of the server. The script of each turn is in its question.
"""

import asyncio
import json
import sys

import agents
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

(url,) = sys.argv[1:]
TURN = '!begin !think:Hmm !call:weather:{"city":"Paris"} !next It-is !result !end'
SMOL_TURN = '!begin !call:weather:{"city":"Paris"} !next !call:final_answer:{"answer":"sunny"} !end'
# An agent that gives a result back by a call of its own, and one whose first call does not fit its tool.
BROKEN_TURN = '!begin !call:weather:{"town":1} !next It-failed: !result !end'


class Weather(Tool):
    name = "weather"
    description = "The weather of a city"
    inputs = {"city": {"type": "string", "description": "The city"}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return f"sunny-in-{city}"


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny-in-{city}"


def smolagents() -> dict:
    model = OpenAIServerModel("demo", f"{url}/v1", api_key="none")
    agent = ToolCallingAgent([Weather()], model, max_steps=3, verbosity_level=0)
    answer = agent.run(SMOL_TURN)
    return {"answer": answer, "seen": agent.memory.steps[1].observations}


def pydantic_ai(model) -> dict:
    agent = Agent(model, tools=[weather])
    first = agent.run_sync(TURN)
    second = agent.run_sync(BROKEN_TURN, message_history=first.all_messages())
    return {"answer": first.output, "second": second.output}


async def agents_sdk(model) -> dict:
    agents.set_tracing_disabled(True)
    agent = agents.Agent("a", model=model, tools=[agents.function_tool(weather)])
    streamed = agents.Runner.run_streamed(agent, TURN)
    async for _ in streamed.stream_events():
        pass
    again = [*streamed.to_input_list(), {"role": "user", "content": BROKEN_TURN}]
    second = await agents.Runner.run(agent, again)
    return {"answer": streamed.final_output, "second": second.final_output}


def openai() -> AsyncOpenAI:
    """A client of its own for each event loop."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none")


def provider() -> OpenAIProvider:
    return OpenAIProvider(openai_client=openai())


print(json.dumps({
    "smolagents": smolagents(),
    "pydantic-ai, chat": pydantic_ai(OpenAIChatModel("demo", provider=provider())),
    "pydantic-ai, responses": pydantic_ai(OpenAIResponsesModel("demo", provider=provider())),
    "pydantic-ai, messages": pydantic_ai(
        AnthropicModel("demo", provider=AnthropicProvider(base_url=url, api_key="none"))
    ),
    "Agents SDK, chat": asyncio.run(agents_sdk(agents.OpenAIChatCompletionsModel("demo", openai()))),
    "Agents SDK, responses": asyncio.run(agents_sdk(agents.OpenAIResponsesModel("demo", openai()))),
}))  # fmt: skip
