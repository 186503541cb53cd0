"""The smallest agent of the Python SDK: one function, no WebSocket."""

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()


@app.entrypoint
def invoke(payload):
    return {"result": payload["prompt"].upper()}


app.run()
