"""An agent for other agents, served with the Python SDK's A2A helper."""

from a2a.helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor
from bedrock_agentcore.runtime.a2a import serve_a2a


class Echo(AgentExecutor):
    async def execute(self, context, event_queue):
        session = context.call_context.state.get("session_id")
        await event_queue.enqueue_event(new_text_message(f"{session} heard {context.get_user_input()}"))

    async def cancel(self, context, event_queue):
        raise NotImplementedError


serve_a2a(Echo())
