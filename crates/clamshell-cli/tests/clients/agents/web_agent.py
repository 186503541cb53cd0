"""An agent of a web framework: bytes back as they came, headers shown, answers of every status."""

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI()


@app.get("/ping")
async def ping():
    return {"status": "Healthy"}


@app.post("/invocations")
async def invocations(request: Request):
    kind = request.headers.get("content-type", "")
    if kind == "application/x-headers":
        return JSONResponse(dict(request.headers))
    if kind == "application/x-status":
        return JSONResponse({"secret": "of the agent"}, status_code=int(await request.body()))
    if kind == "application/x-parts":
        body = await request.body()
        return StreamingResponse((body[at : at + 7919] for at in range(0, len(body), 7919)), media_type=kind)
    return Response(await request.body(), media_type=kind)


uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning")
