"""An agent for user interfaces, served with the Python SDK's AG-UI helper."""

from ag_ui.core import EventType, RunFinishedEvent, RunStartedEvent, TextMessageContentEvent
from bedrock_agentcore.runtime.ag_ui import serve_ag_ui


async def agent(asked, context):
    run = {"thread_id": asked.thread_id, "run_id": asked.run_id}
    yield RunStartedEvent(type=EventType.RUN_STARTED, **run)
    if asked.state == "fail":
        raise ValueError("the agent failed")
    delta = f"{context.session_id} heard {asked.messages[0].content}"
    yield TextMessageContentEvent(type=EventType.TEXT_MESSAGE_CONTENT, message_id="1", delta=delta)
    yield RunFinishedEvent(type=EventType.RUN_FINISHED, **run)


serve_ag_ui(agent)
