"""pumpseg as a web service: an image in, its instances out as COCO results.

pip install "pumpseg[cpu]" fastapi uvicorn
uvicorn fastapi_service:app
curl --data-binary @patch.jpg 'http://127.0.0.1:8000/segment?threshold=0.6'
"""

from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool

from pumpseg import Segmenter

MAX_BYTES = 20_000_000
MIN_THRESHOLD = 0.2  # the lowest that a request may use; the lower it is, the longer every image takes

app = FastAPI(title="pumpseg")
# Shared by all requests, each in a thread: ONNX Runtime releases the interpreter lock while it works.
segmenter = Segmenter(threshold=MIN_THRESHOLD, allow_spinning=False)


@app.post("/segment")
async def segment(
    request: Request, threshold: Annotated[float, Query(ge=MIN_THRESHOLD, le=1, allow_inf_nan=False)] = 0.5
) -> list[dict[str, Any]]:
    """Instances of an image file, JPEG or PNG, sent as the request's body; bbox is [x, y, width, height] in pixels."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"the image has more than {MAX_BYTES} bytes")
    return await run_in_threadpool(_found, bytes(body), threshold)


def _found(data: bytes, threshold: float) -> list[dict[str, Any]]:
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # for example more pixels than OpenCV decodes
        frame = None
    if frame is None:
        raise HTTPException(415, "the body cannot be read as an image")
    instances = segmenter(frame)
    kept = instances[instances.scores >= threshold]
    names = kept.labels
    return [{"class": name, **result} for name, result in zip(names, kept.to_coco(), strict=True)]
