# Images for servers: docker build --target cpu -t pumpseg:cpu .    (or cuda, train; docs/deploy.md says how to run them)
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS wheel
WORKDIR /source
COPY . .
RUN python3 -m venv /opt/pip && /opt/pip/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# The package trackers asks for the OpenCV with windows, which needs libGL: the headless one takes its place again.
FROM ${BASE} AS cpu-environment
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/pumpseg && \
    /opt/pumpseg/bin/pip install --no-cache-dir "pumpseg[headless,watch] @ file://$(ls /wheels/*.whl)" && \
    /opt/pumpseg/bin/pip uninstall --yes opencv-python && \
    /opt/pumpseg/bin/pip install --no-cache-dir --force-reinstall --no-deps opencv-python-headless

# CUDA and cuDNN come as wheels, so that the image needs nothing of the host but NVIDIA's driver.
FROM ${BASE} AS cuda-environment
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/pumpseg && \
    /opt/pumpseg/bin/pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]" \
        "pumpseg[headless-gpu,watch] @ file://$(ls /wheels/*.whl)" && \
    /opt/pumpseg/bin/pip uninstall --yes opencv-python && \
    /opt/pumpseg/bin/pip install --no-cache-dir --force-reinstall --no-deps opencv-python-headless

FROM ${BASE} AS train-environment
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/pumpseg && \
    /opt/pumpseg/bin/pip install --no-cache-dir "pumpseg[headless,video,train,export] @ file://$(ls /wheels/*.whl)"

# Nothing is written but into /out, /cache and /tmp, so that the root can be read-only.
FROM ${BASE} AS user
ENV PATH=/opt/pumpseg/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp XDG_CACHE_HOME=/cache
RUN mkdir -p /models /out /cache && chown 10001:10001 /models /out /cache
VOLUME ["/models", "/out", "/cache"]
WORKDIR /out
USER 10001:10001
# Signals reach pumpseg itself: SIGTERM completes the outputs.
ENTRYPOINT ["pumpseg"]
CMD ["--help"]

FROM user AS train
COPY --from=train-environment /opt/pumpseg /opt/pumpseg

FROM user AS page
EXPOSE 8000
# Healthy while the page answers, whatever its answer, and if no page is served.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-c", "import socket; s = socket.socket(); s.settimeout(4); s.connect_ex(('127.0.0.1', 8000)) or (s.sendall(b'GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n'), s.recv(1)[0])"]

FROM page AS cuda
COPY --from=cuda-environment /opt/pumpseg /opt/pumpseg
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM page AS cpu
COPY --from=cpu-environment /opt/pumpseg /opt/pumpseg
