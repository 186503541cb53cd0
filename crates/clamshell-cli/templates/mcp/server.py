"""Tools for agents, by the Model Context Protocol: POST /mcp on port 8000, no state between requests."""

import platform

from mcp.server.fastmcp import FastMCP

server = FastMCP("{{name}}", host="0.0.0.0", port=8000, stateless_http=True)


@server.tool()
def add(a: float, b: float) -> float:
    """Adds two numbers."""
    return a + b


@server.tool()
def machine() -> str:
    """Tells what the server runs on."""
    return platform.platform()


server.run(transport="streamable-http")
